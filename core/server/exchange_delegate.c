/*
 * A request that its handler hands to another request queue (reference/http-sys.md section 3.3).
 * The handler's side asks the host by a note and has nothing more to say once that agrees; in the
 * host the exchange moves to the other app as if it had just come.
 */
#include "base/err.h"
#include "base/pairs.h"
#include "server/session.h"

/* ---- in the attached app ---- */

bool exchange_may_delegate(const struct exchange *exchange)
{
    return exchange->conn && exchange->conn->channel && exchange->phase == EXCHANGE_OPEN &&
           exchange->content_bytes == 0 && exchange->content_phase != CONTENT_FAILED &&
           !exchange->delegating;
}

int exchange_delegate(struct exchange *exchange, const char *queue)
{
    struct buf pairs = {0};

    if (exchange->conn == NULL)
        return ERR_CLOSED;
    if (exchange->conn->channel == NULL)
        return ERR_UNSUPPORTED;
    if (!exchange_may_delegate(exchange))
        return ERR_STATE;
    exchange->delegating = true;
    pairs_add(&pairs, "delegate", queue);
    h2_note(exchange->stream->session->h2, &exchange->stream->request, buf_span(&pairs));
    conn_send_soon(exchange->conn);
    buf_fini(&pairs);
    return 0;
}

void exchange_delegated(struct exchange *exchange, int code)
{
    if (!exchange->delegating || exchange->phase != EXCHANGE_OPEN)
        return;
    exchange->delegating = false;
    exchange->delegate_code = code;
    if (code == 0) {
        exchange->delegated = exchange->started = true;
        exchange_end(exchange, EXCHANGE_FINISHED);
    }
    exchange->app->handler->certified(exchange);
}

/* ---- in the host ---- */

void exchange_give_back(struct exchange *exchange, struct span content)
{
    struct buf held = {0};

    if (content.len == 0)
        return;
    buf_append(&held, content);
    buf_append(&held, buf_span(&exchange->held));
    buf_fini(&exchange->held);
    exchange->held = held;
    exchange->used_before += content.len;
    exchange->given_back += content.len;
    exchange->content_bytes -= content.len;
}

int exchange_hand_on(struct exchange *exchange, struct app *app)
{
    if (exchange->conn == NULL || exchange->phase != EXCHANGE_OPEN || exchange->content_bytes > 0)
        return ERR_STATE;
    if (exchange->handovers == EXCHANGE_HANDOVERS)
        return ERR_LIMIT;
    exchange->handovers++;
    admission_leave(exchange);
    exchange->task = NULL;
    exchange->attempts = 0;
    app_leave(exchange);
    app_join(app, exchange);
    admission_enter_again(exchange);
    return 0;
}
