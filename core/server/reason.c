/*
 * The table of reasons. Rooms that come before this one name a reason by its word (struct refusal);
 * a spec proves that each such word is found here.
 */
#include "server/reason.h"

#include <string.h>

#include "base/err.h"

static const char *const names[REASONS] = {
    [REASON_NONE] = "-",
    [REASON_BAD_REQUEST] = "BadRequest",
    [REASON_VERB] = "Verb",
    [REASON_URL] = "URL",
    [REASON_HEADER] = "Header",
    [REASON_HOSTNAME] = "Hostname",
    [REASON_INVALID_CR_LF] = "Invalid_CR/LF",
    [REASON_NUMBER] = "Number",
    [REASON_FIELD_LENGTH] = "FieldLength",
    [REASON_REQUEST_LENGTH] = "RequestLength",
    [REASON_URL_LENGTH] = "URL_Length",
    [REASON_VERSION] = "Version_N/S",
    [REASON_NOT_IMPLEMENTED] = "N/I",
    [REASON_FORBIDDEN] = "Forbidden",
    [REASON_NOT_FOUND] = "NotFound",
    [REASON_PRECONDITION] = "Precondition",
    [REASON_ENTITY_TOO_LARGE] = "EntityTooLarge",
    [REASON_AUTH_REQUIRED] = "AuthRequired",
    [REASON_PROXY_HEADER] = "ProxyHeader",
    [REASON_TLS_HANDSHAKE] = "TLS_Handshake",
    [REASON_MISDIRECTED] = "Misdirected",
    [REASON_INTERNAL] = "Internal",
    [REASON_NOT_AVAILABLE] = "N/A",
    [REASON_APP_OFFLINE] = "AppOffline",
    [REASON_APP_SHUTDOWN] = "AppShutdown",
    [REASON_DISABLED] = "Disabled",
    [REASON_CONN_LIMIT] = "ConnLimit",
    [REASON_CONNECTIONS_REFUSED] = "Connections_Refused",
    [REASON_QUEUE_FULL] = "QueueFull",
    [REASON_CLIENT_RESET] = "Client_Reset",
    [REASON_CONNECTION_DROPPED] = "Connection_Dropped",
    [REASON_CONNECTION_ABANDONED] = "Connection_Abandoned_By_ReqQueue",
    [REASON_REQUEST_CANCELLED] = "Request_Cancelled",
    [REASON_TIMER_CONNECTION_IDLE] = "Timer_ConnectionIdle",
    [REASON_TIMER_HEADER_WAIT] = "Timer_HeaderWait",
    [REASON_TIMER_ENTITY_BODY] = "Timer_EntityBody",
    [REASON_TIMER_MIN_BYTES_PER_SECOND] = "Timer_MinBytesPerSecond",
    [REASON_TIMER_SEND_STALLED] = "Timer_SendStalled",
    [REASON_TIMER_REQ_QUEUE] = "Timer_ReqQueue",
    [REASON_TIMER_SSL_RENEGOTIATION] = "Timer_SslRenegotiation",
    [REASON_TIMER_HANDLER] = "Timer_Handler",
};

const char *reason_name(enum reason reason)
{
    CHECK(reason < REASONS);
    return names[reason];
}

enum reason reason_find(const char *name)
{
    for (int reason = REASON_NONE + 1; reason < REASONS; reason++)
        if (strcmp(names[reason], name) == 0)
            return (enum reason)reason;
    return REASON_NONE;
}
