/*
 * The BIO between OpenSSL and the connections. OpenSSL would make a system call for each record's
 * head, each record and each message of a handshake; here it reads from what one call has brought
 * and writes to what one call will send. Neither end waits: what is not there yet is asked for
 * again. It keeps nothing between two calls, so that all connections of a worker share one.
 */
#include "tls/tls_ctx_priv.h"

static int read_received(BIO *bio, char *into, int room)
{
    struct tls *tls = BIO_get_data(bio);
    struct span *received = &tls->received;
    size_t length = received->len < (size_t)room ? received->len : (size_t)room;

    BIO_clear_retry_flags(bio);
    if (length == 0) {
        if (tls_stream_input_over(tls->active))
            return 0;
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(into, received->at, length);
    *received = span_skip(*received, length);
    return (int)length;
}

static int write_sealed(BIO *bio, const char *bytes, int length)
{
    struct tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (length > 0)
        buf_append(&tls->sealed, span_of(bytes, (size_t)length));
    return length;
}

static long control(BIO *bio, int command, long number, void *pointer)
{
    const struct tls *tls = BIO_get_data(bio);

    (void)number;
    (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH:
        return 1; /* the stream sends when OpenSSL has said all */
    case BIO_CTRL_EOF:
        return tls->received.len == 0 && tls_stream_input_over(tls->active);
    default:
        return 0;
    }
}

static int create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

bool tls_bio_open(struct tls *tls)
{
    static int index; /* OpenSSL has a hundred of them in all */
    BIO_METHOD *method;

    if (index == 0)
        index = BIO_get_new_index();
    method = BIO_meth_new(index | BIO_TYPE_SOURCE_SINK, "connection");
    tls->bio_method = method;
    if (method == NULL || !BIO_meth_set_read(method, read_received) ||
        !BIO_meth_set_write(method, write_sealed) || !BIO_meth_set_ctrl(method, control) ||
        !BIO_meth_set_create(method, create))
        return false;
    tls->bio = BIO_new(method);
    if (tls->bio)
        BIO_set_data(tls->bio, tls);
    return tls->bio != NULL;
}

void tls_bio_close(struct tls *tls)
{
    BIO_free(tls->bio);
    BIO_meth_free(tls->bio_method);
}
