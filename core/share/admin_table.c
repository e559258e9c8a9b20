/* The two tables, and what a value must be. Files and users are not looked at here. */
#include <stdlib.h>
#include <string.h>

#include "net/addr.h"
#include "server/tls_binding.h"
#include "share/admin_priv.h"
#include "share/reservation.h"
#include "share/sslcert.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define ADD    ADMIN_BIT(ADMIN_ADD)
#define UPDATE ADMIN_BIT(ADMIN_UPDATE)
#define DELETE ADMIN_BIT(ADMIN_DELETE)
#define SHOW   ADMIN_BIT(ADMIN_SHOW)

/* ---- values ---- */

static int wrong(const char *name, const char *value, const char *allowed, struct err_text *text)
{
    return err_set(text, EXIT_USAGE_ERROR, ERR_INVALID, "%s=%.200s: must be %s", name, value,
                   allowed);
}

static int judge_url(const char *name, const char *value, struct err_text *text)
{
    struct url_prefix prefix;
    struct err_text why;

    if (reservation_url(&prefix, value, &why) < 0)
        return err_set(text, EXIT_USAGE_ERROR, ERR_INVALID, "%s=%.900s", name, why.text);
    url_prefix_fini(&prefix);
    return 0;
}

/* As reservations_add has it; whether there is one of this name is the host's to know. */
static int judge_holder(const char *name, const char *value, struct err_text *text)
{
    size_t length = strlen(value);

    return length >= 1 && length <= 256 ? 0 : wrong(name, value, "1 to 256 characters", text);
}

static bool is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");

    return digits >= 1 && digits <= 5 && text[digits] == '\0' && text[0] != '0' &&
           atoi(text) <= 65535;
}

/* Cuts "HOST:PORT" at its last colon; false when it is none. */
static bool split(const char *value, struct span *host)
{
    const char *colon = strrchr(value, ':');

    if (colon == NULL || !is_port(colon + 1))
        return false;
    *host = span_of(value, (size_t)(colon - value));
    return true;
}

static int judge_ipport(const char *name, const char *value, struct err_text *text)
{
    struct net_addr addr;
    struct span host;
    bool is_bare_v6; /* of which the last colon may be another one's */

    if (!split(value, &host))
        return wrong(name, value, "ADDRESS:PORT, the port between 1 and 65535", text);
    is_bare_v6 = host.len > 0 && host.at[0] != '[' && memchr(host.at, ':', host.len);
    if (is_bare_v6 || net_addr_parse(&addr, host, 0) < 0)
        return wrong(name, value,
                     "an IP address and a port, as 192.0.2.1:443, 0.0.0.0:443 or [::]:443", text);
    return 0;
}

static int judge_hostnameport(const char *name, const char *value, struct err_text *text)
{
    char room[TLS_NAME_MOST + 1];
    struct span host;

    if (split(value, &host) && host.len < sizeof(room)) {
        memcpy(room, host.at, host.len);
        room[host.len] = '\0';
        if (tls_binding_is_name(room))
            return 0;
    }
    return wrong(name, value, "a host name and a port, as example.com:443 or *.example.com:443",
                 text);
}

static int judge_path(const char *name, const char *value, struct err_text *text)
{
    if (value[0] != '/' || strlen(value) >= TLS_BINDING_PATH)
        return wrong(name, value, "an absolute path of at most 511 bytes", text);
    return 0;
}

static int judge_hash(const char *name, const char *value, struct err_text *text)
{
    return sslcert_is_hash(value)
               ? 0
               : wrong(name, value, "40 (SHA-1) or 64 (SHA-256) hexadecimal digits", text);
}

static int judge_appid(const char *name, const char *value, struct err_text *text)
{
    return sslcert_is_appid(value) ? 0 : wrong(name, value, SSLCERT_APPID_FORM, text);
}

static int judge_address(const char *name, const char *value, struct err_text *text)
{
    struct net_addr addr;

    if (net_addr_parse(&addr, span_str(value), 0) < 0)
        return wrong(name, value, "an IPv4 or IPv6 address", text);
    return 0;
}

/* "120" as 10, "0x78" as 16; 0: neither. */
static int base_of(const char *text, const char **digits)
{
    bool is_hex = text[0] == '0' && ascii_lower(text[1]) == 'x';

    *digits = is_hex ? text + 2 : text;
    size_t count = strspn(*digits, is_hex ? "0123456789abcdefABCDEF" : "0123456789");

    return count >= 1 && count <= 8 && (*digits)[count] == '\0' ? is_hex ? 16 : 10 : 0;
}

unsigned admin_seconds(const char *text)
{
    const char *digits;
    int base = base_of(text, &digits);
    unsigned long seconds = base ? strtoul(digits, NULL, base) : 0;

    return seconds <= 65535 ? (unsigned)seconds : 0;
}

static int judge_seconds(const char *name, const char *value, struct err_text *text)
{
    return admin_seconds(value) ? 0
                                : wrong(name, value,
                                        "between 1 and 65535 seconds, decimal or hexadecimal as "
                                        "0x78",
                                        text);
}

/* netsh's description of who may: a language of another system. */
static int refuse_sddl(const char *name, const char *value, struct err_text *text)
{
    (void)value;
    return err_set(text, EXIT_USAGE_ERROR, ERR_UNSUPPORTED,
                   "%s=: not here: say with user= or group= who it is for", name);
}

static const char *const yes_no[] = {"yes", "no", NULL};
static const char *const versions[] = {"1.2", "1.3", NULL};
static const char *const client_certificates[] = {"none", "allow", "require", "delay", NULL};
static const char *const negotiations[] = {"enable", "disable", NULL};
static const char *const timeouts[] = {"idleconnectiontimeout", "headerwaittimeout", NULL};
static const char *const views[] = {"session", "requestq", NULL};

/* ---- the tables ---- */

const struct admin_command admin_commands[] = {
    {ADMIN_ADD, ADMIN_URLACL, ADMIN_DELEGATES,
     "reserves a URL: who it is for may register at or below it"},
    {ADMIN_DELETE, ADMIN_URLACL, ADMIN_DELEGATES, "ends a reservation; apps that run stay"},
    {ADMIN_SHOW, ADMIN_URLACL, ADMIN_EVERYBODY, "the reservations, or that of one URL"},
    {ADMIN_ADD, ADMIN_SSLCERT, ADMIN_OWNERS, "says which certificate is shown where"},
    {ADMIN_UPDATE, ADMIN_SSLCERT, ADMIN_OWNERS, "replaces what is said for a place"},
    {ADMIN_DELETE, ADMIN_SSLCERT, ADMIN_OWNERS, "takes the certificate of a place away"},
    {ADMIN_SHOW, ADMIN_SSLCERT, ADMIN_OWNERS, "the certificates, or that of one place"},
    {ADMIN_ADD, ADMIN_IPLISTEN, ADMIN_OWNERS, "adds an address to those of the host's sockets"},
    {ADMIN_DELETE, ADMIN_IPLISTEN, ADMIN_OWNERS, "takes such an address away"},
    {ADMIN_SHOW, ADMIN_IPLISTEN, ADMIN_EVERYBODY, "the addresses of the host's sockets; none: all"},
    {ADMIN_ADD, ADMIN_TIMEOUT, ADMIN_OWNERS, "sets a time limit of the whole host"},
    {ADMIN_DELETE, ADMIN_TIMEOUT, ADMIN_OWNERS, "sets it back to what it is without"},
    {ADMIN_SHOW, ADMIN_TIMEOUT, ADMIN_EVERYBODY, "the time limits of the whole host"},
    {ADMIN_SHOW, ADMIN_SERVICESTATE, ADMIN_OWNERS,
     "sessions, groups, queues and their processes, requests and timers"},
    {ADMIN_FLUSH, ADMIN_LOGBUFFER, ADMIN_OWNERS, "writes what waits for the logs"},
    {ADMIN_SHOW, ADMIN_FIREWALL, ADMIN_EVERYBODY,
     "prints the commands that open the ports in use, and runs none"},
};
const size_t admin_command_count = COUNT(admin_commands);

#define SSLCERT_WRITE (ADD | UPDATE)
#define SSLCERT_PLACE .may = ADD | UPDATE | DELETE | SHOW, .must = ADD | UPDATE | DELETE

const struct admin_argument admin_arguments[] = {
    {ADMIN_URLACL, "url", "URL", .may = ADD | DELETE | SHOW, .must = ADD | DELETE,
     .judge = judge_url, .help = "http://HOST:PORT/PATH/, a slash at its end"},
    {ADMIN_URLACL, "user", "NAME", .may = ADD, .must = ADD, .group = 'w', .judge = judge_holder,
     .help = "for this user, by name or as #UID"},
    {ADMIN_URLACL, "group", "NAME", .may = ADD, .must = ADD, .group = 'w', .judge = judge_holder,
     .help = "for this group, by name or as #GID"},
    {ADMIN_URLACL, "listen", "yes|no", .may = ADD, .choices = yes_no,
     .help = "they may register prefixes; yes"},
    {ADMIN_URLACL, "delegate", "yes|no", .may = ADD, .choices = yes_no,
     .help = "they may reserve below it; no"},
    {ADMIN_URLACL, "sddl", NULL, .may = ADD, .judge = refuse_sddl},

    {ADMIN_SSLCERT, "ipport", "ADDRESS:PORT", SSLCERT_PLACE, .group = 'p', .judge = judge_ipport,
     .help = "at this address; 0.0.0.0 and [::] are any"},
    {ADMIN_SSLCERT, "hostnameport", "NAME:PORT", SSLCERT_PLACE, .group = 'p',
     .judge = judge_hostnameport, .help = "to who asks for this name, or *.DOMAIN"},
    {ADMIN_SSLCERT, "cert", "FILE", .may = SSLCERT_WRITE, .must = SSLCERT_WRITE, .group = 'c',
     .judge = judge_path, .help = "certificate and chain (PEM)"},
    {ADMIN_SSLCERT, "key", "FILE", .may = SSLCERT_WRITE, .with = "cert", .judge = judge_path,
     .help = "its private key (PEM)"},
    {ADMIN_SSLCERT, "certhash", "HEX", .may = SSLCERT_WRITE, .must = SSLCERT_WRITE, .group = 'c',
     .judge = judge_hash, .help = "one of the host's store, by SHA-1 or SHA-256"},
    {ADMIN_SSLCERT, "appid", "{GUID}", .may = SSLCERT_WRITE, .judge = judge_appid,
     .help = "whose it is, for people"},
    {ADMIN_SSLCERT, "min_version", "1.2|1.3", .may = SSLCERT_WRITE, .choices = versions,
     .help = "the oldest TLS version"},
    {ADMIN_SSLCERT, "max_version", "1.2|1.3", .may = SSLCERT_WRITE, .choices = versions,
     .help = "the newest TLS version"},
    {ADMIN_SSLCERT, "client_certificate", "none|allow|require|delay", .may = SSLCERT_WRITE,
     .group = 'n', .choices = client_certificates, .help = "what the handshake asks of clients"},
    {ADMIN_SSLCERT, "clientcertnegotiation", "enable|disable", .may = SSLCERT_WRITE, .group = 'n',
     .choices = negotiations, .help = "the same: enable is allow, disable is none"},
    {ADMIN_SSLCERT, "client_authorities", "FILE", .may = SSLCERT_WRITE, .judge = judge_path,
     .help = "who vouches for clients (PEM)"},

    {ADMIN_IPLISTEN, "ipaddress", "ADDRESS", .may = ADD | DELETE, .must = ADD | DELETE,
     .judge = judge_address, .help = "IPv4 or IPv6; 0.0.0.0 and :: are any of their kind"},

    {ADMIN_TIMEOUT, "timeouttype", "idleconnectiontimeout|headerwaittimeout", .may = ADD | DELETE,
     .must = ADD | DELETE, .choices = timeouts,
     .help = "of a connection without a request, or of a head"},
    {ADMIN_TIMEOUT, "value", "SECONDS", .may = ADD, .must = ADD, .judge = judge_seconds,
     .help = "between 1 and 65535, decimal or 0x…"},

    {ADMIN_SERVICESTATE, "view", "session|requestq", .may = SHOW, .choices = views,
     .help = "what it is ordered by: session"},
    {ADMIN_SERVICESTATE, "verbose", "yes|no", .may = SHOW, .choices = yes_no,
     .help = "with timers and limits; yes"},
};
const size_t admin_argument_count = COUNT(admin_arguments);
