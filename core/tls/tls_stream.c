/*
 * OpenSSL between an owner and a socket, neither of which waits. A read takes what the socket has
 * with one call and opens all of it; a write seals up to TLS_BATCH_BYTES and sends them with one
 * call. What the socket does not take of sealed bytes cannot be sealed again: it is kept, and the
 * owner is not told that those bytes were taken before they are, so that whatever it has heard to
 * be written is really on its way.
 */
#include "tls/tls_stream_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

#define PARTS_MAX 8

/*
 * Of sealed bytes that wait for the socket: more than a batch are answers of the protocol's own,
 * and who asks for those (KeyUpdate, RFC 8446 section 4.6.3) without reading them is not read on.
 */
#define UNSENT_MOST (2 * TLS_BATCH_BYTES)

static struct tls_stream *self_of(struct stream *stream)
{
    return (struct tls_stream *)(void *)stream;
}

static int fd_of(const struct tls_stream *self)
{
    return self->io.watcher.fd;
}

bool tls_stream_input_over(const struct tls_stream *self)
{
    return self->input_over;
}

const struct net_addr *tls_stream_local(const struct tls_stream *self)
{
    return &self->local;
}

const struct tls_generation *tls_stream_generation(const struct tls_stream *self)
{
    return self->generation;
}

void tls_stream_choose(struct tls_stream *self, const struct tls_profile *profile)
{
    self->profile = profile;
}

/* Before each call of OpenSSL: whose callbacks are called, and no error of before. */
static void enter(struct tls_stream *self)
{
    self->tls->active = self;
    ERR_clear_error();
}

/* ---- events ---- */

static void on_socket(struct loop_io *io, int events);

static bool is_choked(const struct tls_stream *self)
{
    return buf_len(&self->unsent) > UNSENT_MOST;
}

/* What can be read although the socket may have nothing. */
static bool has_hidden(const struct tls_stream *self)
{
    if (self->is_failed)
        return !self->failure_told;
    if (is_choked(self))
        return false;
    return buf_len(&self->kept) > 0 || self->is_over || SSL_pending(self->ssl) > 0;
}

static void watch(struct tls_stream *self)
{
    int events = is_choked(self) ? 0 : self->wanted & STREAM_READ;
    int now = ev_is_active(&self->io.watcher) ? self->io.watcher.events & 3 : 0;

    if (((self->wanted & STREAM_WRITE) && !self->read_blocks_write) || buf_len(&self->unsent) > 0 ||
        self->write_blocks_read)
        events |= STREAM_WRITE;
    if ((self->wanted & STREAM_READ) && has_hidden(self))
        loop_defer_turn(self->loop, &self->again);
    if (now == events)
        return;
    loop_io_stop(self->loop, &self->io);
    if (events)
        loop_io_start(self->loop, &self->io, fd_of(self), events, on_socket);
}

/* The owner may close, and so free, the stream: nothing is touched after the call. */
static void on_again(struct loop_call *call)
{
    struct tls_stream *self = LIST_OWNER(call, struct tls_stream, again);

    if (self->wanted & STREAM_READ)
        self->stream.ready(self->stream.owner, STREAM_READ);
}

/* ---- sending ---- */

static void end_output(struct tls_stream *self)
{
    self->ends_output = true;
    if (buf_len(&self->unsent) == 0)
        shutdown(fd_of(self), SHUT_WR);
}

/* Sends what could not be sent before. 0, ERR_AGAIN, ERR_RESET, ERR_IO. */
static int send_unsent(struct tls_stream *self)
{
    ssize_t sent;

    if (buf_len(&self->unsent) == 0)
        return 0;
    sent = send(fd_of(self), buf_span(&self->unsent).at, buf_len(&self->unsent), MSG_NOSIGNAL);
    if (sent < 0)
        return err_from_errno(errno);
    buf_consume(&self->unsent, (size_t)sent);
    if (buf_len(&self->unsent) > 0)
        return ERR_AGAIN;
    buf_fini(&self->unsent);
    if (self->ends_output)
        shutdown(fd_of(self), SHUT_WR);
    return 0;
}

/* What is behind sent waits: the buffer itself, since for slow peers that is nearly every batch. */
static void keep_sealed(struct tls_stream *self, size_t sent)
{
    struct buf *sealed = &self->tls->sealed;

    buf_consume(sealed, sent);
    if (buf_len(&self->unsent) > 0) {
        buf_append(&self->unsent, buf_span(sealed));
        buf_consume(sealed, buf_len(sealed));
        return;
    }
    buf_fini(&self->unsent);
    self->unsent = *sealed;
    *sealed = (struct buf){0};
}

/* Sends what OpenSSL has sealed; what the socket does not take waits in unsent. */
static int send_sealed(struct tls_stream *self)
{
    struct span sealed = buf_span(&self->tls->sealed);
    ssize_t sent = 0;
    int code = 0;

    if (sealed.len == 0)
        return 0;
    if (buf_len(&self->unsent) == 0)
        sent = send(fd_of(self), sealed.at, sealed.len, MSG_NOSIGNAL);
    if (sent < 0) {
        code = err_from_errno(errno);
        sent = code == ERR_AGAIN ? 0 : (ssize_t)sealed.len; /* nobody takes it any more */
    }
    if ((size_t)sent < sealed.len) {
        keep_sealed(self, (size_t)sent);
        return ERR_AGAIN;
    }
    buf_consume(&self->tls->sealed, sealed.len);
    return code;
}

/* ---- failing ---- */

static void count(const struct tls_stream *self, enum tls_event event)
{
    if (self->tls->parts.counted)
        self->tls->parts.counted(self->tls->parts.owner, event);
}

/* A reason of OpenSSL's is static text; for a client's certificate it says too little. */
static const char *failure_reason(const struct tls_stream *self)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason;

    if (ERR_GET_LIB(code) != ERR_LIB_SSL)
        return self->is_established ? "the connection broke" : "the peer left during the handshake";
    if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return X509_verify_cert_error_string(SSL_get_verify_result(self->ssl));
    if (ERR_GET_REASON(code) == SSL_R_CALLBACK_FAILED && self->profile == NULL)
        return "no binding of the setting tls fits";
    reason = ERR_reason_error_string(code);
    return reason ? reason : "no reason given";
}

static void forget_tls(struct tls_stream *self)
{
    SSL_free(self->ssl);
    self->ssl = NULL;
    buf_fini(&self->kept);
}

static void fail(struct tls_stream *self)
{
    self->failure = failure_reason(self);
    ERR_clear_error();
    send_sealed(self); /* the alert */
    if (!self->is_established)
        count(self, TLS_HANDSHAKE_FAILED);
    self->is_failed = true;
    self->is_asking = false;
    forget_tls(self);
}

/* Tells of a failure once, then reads to the end for nobody. */
static ssize_t read_failed(struct tls_stream *self, char *into, size_t room)
{
    ssize_t got;

    if (!self->failure_told) {
        self->failure_told = true;
        return self->is_established ? ERR_RESET : ERR_INVALID;
    }
    got = recv(fd_of(self), into, room, 0);
    if (got < 0)
        return err_from_errno(errno);
    return got == 0 ? 0 : ERR_AGAIN;
}

/* ---- the ticket ---- */

/*
 * Seals the one ticket of TLS 1.3, which may be sent at any time after the handshake: beside the
 * first answer it costs no write of its own. OpenSSL sets up both of its buffers for that; the look
 * for bytes that are not there makes it give back the one for reading.
 */
static void give_ticket(struct tls_stream *self)
{
    char nothing;

    if (self->has_ticket)
        return;
    self->has_ticket = true;
    if (SSL_version(self->ssl) != TLS1_3_VERSION)
        return;
    enter(self);
    if (SSL_new_session_ticket(self->ssl) == 1) {
        SSL_do_handshake(self->ssl);
        SSL_peek(self->ssl, &nothing, 1);
    }
    ERR_clear_error();
}

/* ---- reading ---- */

/*
 * A client that has not sent its request yet may be waiting for a word of ours to do so: without
 * one its Nagle and our delayed acknowledgement would add up to 40 ms.
 */
static void established(struct tls_stream *self, bool has_request)
{
    self->is_established = true;
    count(self, SSL_session_reused(self->ssl) ? TLS_HANDSHAKE_RESUMED : TLS_HANDSHAKE_FULL);
    if (!has_request)
        give_ticket(self);
}

/* Gives OpenSSL what there is to read: what was kept, else what the socket has. 0 or an error. */
static int receive(struct tls_stream *self, size_t room)
{
    struct tls *tls = self->tls;
    ssize_t got;

    tls->received = buf_span(&self->kept);
    if (tls->received.len > 0 || self->input_over || !self->own_bio)
        return 0;
    /* Opened it is no longer than sealed, so that all of it fits, unless a record began before. */
    got = recv(fd_of(self), tls->incoming, room < TLS_READ_BYTES ? room : TLS_READ_BYTES, 0);
    if (got < 0)
        return err_from_errno(errno);
    self->input_over = got == 0;
    self->has_begun |= got > 0;
    tls->received = span_of(tls->incoming, (size_t)got);
    return 0;
}

/* What OpenSSL has left of it stays for the next time. */
static void keep_rest(struct tls_stream *self)
{
    struct tls *tls = self->tls;

    if (buf_len(&self->kept) > 0)
        buf_consume(&self->kept, buf_len(&self->kept) - tls->received.len);
    else if (tls->received.len > 0 && self->ssl)
        buf_append(&self->kept, tls->received);
    if (self->kept.data && buf_len(&self->kept) == 0)
        buf_fini(&self->kept);
    tls->received = SPAN_NONE;
}

/* Opens records until there are no more or into is full: how many bytes, and in *end how it
 * ended. */
static size_t open_records(struct tls_stream *self, char *into, size_t room, int *end)
{
    size_t used = 0;

    *end = SSL_ERROR_NONE;
    while (used < room) {
        size_t opened = 0;
        int rc;

        enter(self);
        rc = SSL_read_ex(self->ssl, into + used, room - used, &opened);
        if (rc == 1) {
            used += opened;
            continue;
        }
        *end = SSL_get_error(self->ssl, rc);
        break;
    }
    return used;
}

/* After OpenSSL has said that it cannot go on: 0 at the peer's end, or an error. */
static ssize_t judge_end(struct tls_stream *self, int end)
{
    switch (end) {
    case SSL_ERROR_WANT_WRITE:
        self->write_blocks_read = true;
        return ERR_AGAIN;
    case SSL_ERROR_WANT_READ:
        return ERR_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        if (self->is_established) {
            self->is_over = true;
            return 0;
        }
        break;
    default:
        break;
    }
    if (self->input_over && !self->has_begun) {
        self->is_over = true; /* it came and went */
        return 0;
    }
    fail(self);
    return read_failed(self, NULL, 0);
}

static ssize_t tls_read(struct stream *stream, char *into, size_t room)
{
    struct tls_stream *self = self_of(stream);
    ssize_t code;
    size_t used;
    int end;

    if (self->is_failed)
        return read_failed(self, into, room);
    if (is_choked(self))
        return ERR_AGAIN;
    code = receive(self, room);
    if (code == ERR_RESET && !self->is_established && self->has_begun) {
        fail(self);
        return read_failed(self, into, room);
    }
    if (code < 0 && (code != ERR_AGAIN || SSL_pending(self->ssl) == 0))
        return code;
    self->write_blocks_read = self->read_blocks_write = false;
    used = open_records(self, into, room, &end);
    if (!self->own_bio) {
        self->input_over |= BIO_eof(SSL_get_rbio(self->ssl));
        self->has_begun |= BIO_number_read(SSL_get_rbio(self->ssl)) > 0;
    }
    if (!self->is_established && SSL_is_init_finished(self->ssl))
        established(self, used > 0);
    code = end == SSL_ERROR_NONE ? 0 : judge_end(self, end);
    keep_rest(self);
    if (self->ssl)
        send_sealed(self);
    if (used > 0 && self->is_failed)
        self->failure_told = false; /* with the next read */
    watch(self);
    return used > 0 ? (ssize_t)used : code;
}

/* ---- writing ---- */

/* A place in the parts that are written. */
struct cursor {
    const struct span *parts;
    int count;
    size_t at; /* in the first of them */
};

static void skip(struct cursor *cursor, size_t bytes)
{
    while (cursor->count > 0 && bytes >= cursor->parts[0].len - cursor->at) {
        bytes -= cursor->parts[0].len - cursor->at;
        cursor->parts++;
        cursor->count--;
        cursor->at = 0;
    }
    CHECK(cursor->count > 0 || bytes == 0); /* the owner has written again what was not taken */
    cursor->at += bytes;
}

/* The plain bytes of the next record, at most so many: where they lie, or put together. */
static struct span next_record(struct tls_stream *self, struct cursor *cursor, size_t most)
{
    struct span part = span_skip(cursor->parts[0], cursor->at);
    char *plain = self->tls->plain;
    size_t used = 0;

    if (most > TLS_RECORD_BYTES)
        most = TLS_RECORD_BYTES;
    if (part.len >= most || cursor->count == 1) {
        part.len = part.len < most ? part.len : most;
        skip(cursor, part.len);
        return part;
    }
    while (cursor->count > 0 && used < most) {
        part = span_skip(cursor->parts[0], cursor->at);
        if (part.len > most - used)
            part.len = most - used;
        memcpy(plain + used, part.at, part.len);
        used += part.len;
        skip(cursor, part.len);
    }
    return span_of(plain, used);
}

/*
 * Seals one record. Its bytes, ERR_RESET, or ERR_AGAIN: a socket of OpenSSL's is full, or the
 * client has begun to answer for its certificate, and nothing else may come between.
 */
static ssize_t seal(struct tls_stream *self, struct span plain)
{
    size_t sealed = 0;
    int rc;

    enter(self);
    rc = SSL_write_ex(self->ssl, plain.at, plain.len, &sealed);
    if (rc == 1)
        return (ssize_t)sealed;
    switch (SSL_get_error(self->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        self->read_blocks_write = true;
        return ERR_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        return ERR_AGAIN;
    default:
        ERR_clear_error();
        return ERR_RESET;
    }
}

/*
 * What of the batch may be told as taken, while so much of it waits: at least so many plain bytes
 * are in that, and the last one counts when nothing waits.
 */
static size_t settle_owed(struct tls_stream *self, size_t batch)
{
    size_t left = buf_len(&self->unsent);

    self->owed = batch < left ? batch : left;
    return batch - self->owed;
}

/*
 * Seals up to TLS_BATCH_BYTES and sends them at once. How many bytes were taken; with owed or
 * without any parts left the socket has had enough.
 */
static ssize_t write_batch(struct tls_stream *self, struct cursor *cursor)
{
    size_t used = 0;
    int code;

    while (cursor->count > 0 && used < TLS_BATCH_BYTES) {
        struct span plain = next_record(self, cursor, TLS_BATCH_BYTES - used);
        ssize_t sealed = plain.len > 0 ? seal(self, plain) : 0;

        if (sealed == ERR_RESET) {
            send_sealed(self); /* nothing of it may stay for another connection */
            return ERR_RESET;
        }
        if (sealed < (ssize_t)plain.len)
            cursor->count = 0; /* no more for now */
        used += sealed > 0 ? (size_t)sealed : 0;
    }
    code = send_sealed(self);
    if (code < 0 && code != ERR_AGAIN)
        return code;
    return (ssize_t)settle_owed(self, used);
}

static ssize_t tls_write(struct stream *stream, const struct span *parts, int count)
{
    struct tls_stream *self = self_of(stream);
    struct cursor cursor = {parts, count, 0};
    size_t used, owed = self->owed;
    int code;

    CHECK(count > 0 && count <= PARTS_MAX);
    if (self->is_failed)
        return ERR_RESET;
    if (!self->is_established)
        return ERR_AGAIN;
    code = send_unsent(self);
    if (code < 0 && code != ERR_AGAIN)
        return code;
    used = settle_owed(self, owed);
    if (code == 0) {
        give_ticket(self);
        skip(&cursor, owed);
    }
    while (code == 0 && cursor.count > 0 && self->owed == 0) {
        ssize_t batch = write_batch(self, &cursor);

        if (batch < 0)
            return batch;
        used += (size_t)batch;
    }
    watch(self);
    return used > 0 ? (ssize_t)used : ERR_AGAIN;
}

/* ---- the rest of a stream ---- */

static void tls_want(struct stream *stream, int events)
{
    struct tls_stream *self = self_of(stream);

    self->wanted = (uint8_t)events;
    watch(self);
}

static void on_socket(struct loop_io *io, int events)
{
    struct tls_stream *self = LIST_OWNER(io, struct tls_stream, io);
    int told = events & self->wanted & STREAM_READ;

    if (events & STREAM_WRITE) {
        if (self->write_blocks_read)
            told |= self->wanted & STREAM_READ;
        if ((self->wanted & STREAM_WRITE) && !self->read_blocks_write)
            told |= STREAM_WRITE; /* its write sends what waits */
        else
            send_unsent(self);
        watch(self);
    }
    if (told)
        self->stream.ready(self->stream.owner, told);
}

/* Tells the peer that no more comes, so that it knows that it has all. */
static void say_end(struct tls_stream *self)
{
    if (self->ssl == NULL || !self->is_established ||
        (SSL_get_shutdown(self->ssl) & SSL_SENT_SHUTDOWN))
        return;
    enter(self);
    SSL_shutdown(self->ssl);
    ERR_clear_error();
    send_sealed(self);
}

static void tls_shutdown(struct stream *stream)
{
    struct tls_stream *self = self_of(stream);

    say_end(self);
    end_output(self);
    watch(self);
}

static void tls_close(struct stream *stream, bool reset)
{
    struct tls_stream *self = self_of(stream);
    int fd = fd_of(self);

    if (reset) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};

        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    } else {
        say_end(self);
    }
    loop_io_stop(self->loop, &self->io);
    loop_call_cancel(&self->again);
    forget_tls(self);
    buf_fini(&self->unsent);
    tls_generation_unref(self->generation);
    close(fd);
    mem_free(self);
}

static int tls_descriptor(const struct stream *stream)
{
    return fd_of(tls_stream_of(stream));
}

static bool tls_pending(const struct stream *stream)
{
    return has_hidden(tls_stream_of(stream));
}

static const struct stream_type tls_type = {
    .read = tls_read,
    .write = tls_write,
    .want = tls_want,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .descriptor = tls_descriptor,
    .pending = tls_pending,
};

static bool set_bio(struct tls_stream *self)
{
    BIO *bio = self->own_bio ? self->tls->bio : BIO_new_socket(fd_of(self), BIO_NOCLOSE);

    if (bio == NULL)
        return false;
    if (self->own_bio)
        BIO_up_ref(bio);
    SSL_set_bio(self->ssl, bio, bio);
    return true;
}

/* OpenSSL has no other failure here than no memory, which is fatal everywhere. */
struct stream *tls_stream_new(struct tls *tls, struct loop *loop, int fd,
                              const struct net_addr *local, struct span received)
{
    struct tls_stream *self = mem_zalloc(sizeof(*self));

    self->stream.type = &tls_type;
    self->tls = tls;
    self->generation = tls_generation_ref(tls->now);
    self->loop = loop;
    self->local = *local;
    self->own_bio = !tls->socket_bio || received.len > 0; /* a socket gives nothing back */
    self->has_begun = received.len > 0;
    buf_append(&self->kept, received);
    ev_io_set(&self->io.watcher, fd, 0);
    loop_call_init(&self->again, on_again);
    self->ssl = SSL_new(self->generation->front);
    CHECK(self->ssl != NULL && set_bio(self));
    SSL_set_accept_state(self->ssl);
    /* Off its own socket OpenSSL would go on reading for as long as a client sends KeyUpdates. */
    if (!self->own_bio)
        SSL_clear_mode(self->ssl, SSL_MODE_AUTO_RETRY);
    return &self->stream;
}

/* ---- a certificate after the handshake ---- */

/* The client's last word of its answer is its Finished, also of an answer without a certificate. */
static void on_message(int is_written, int version, int type, const void *bytes, size_t length,
                       SSL *ssl, void *argument)
{
    (void)version;
    (void)ssl;
    if (!is_written && type == SSL3_RT_HANDSHAKE && length > 0 &&
        *(const unsigned char *)bytes == SSL3_MT_FINISHED)
        ((struct tls_stream *)argument)->is_asking = false;
}

int tls_stream_ask_certificate(struct stream *stream)
{
    struct tls_stream *self = self_of(stream);

    if (self->ssl == NULL || !self->is_established || self->is_asking || self->profile == NULL ||
        self->profile->client != TLS_CLIENT_DELAY)
        return ERR_STATE;
    if (SSL_version(self->ssl) != TLS1_3_VERSION || span_eq(tls_stream_alpn(stream), SPAN("h2")))
        return ERR_UNSUPPORTED;
    enter(self);
    SSL_set_verify(self->ssl, SSL_VERIFY_PEER, tls_verify_later);
    if (SSL_verify_client_post_handshake(self->ssl) != 1) {
        ERR_clear_error();
        return ERR_UNSUPPORTED;
    }
    SSL_set_msg_callback(self->ssl, on_message);
    SSL_set_msg_callback_arg(self->ssl, self);
    self->is_asking = true;
    SSL_do_handshake(self->ssl);
    ERR_clear_error();
    send_sealed(self);
    watch(self);
    return 0;
}

bool tls_stream_is_asking(const struct stream *stream)
{
    return tls_stream_of(stream)->is_asking;
}
