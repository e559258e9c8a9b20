/* OpenSSL's verifier with the purpose of a server, at a time that the caller names. */
#include "tls/openssl_priv.h"

#include "tls/tls_verify.h"

#include <time.h>

#include "base/mem.h"
#include "tls/tls_cert_priv.h"

struct tls_authorities {
    X509_STORE *store;
};

int tls_authorities_new(struct tls_authorities **authorities, struct span pem, struct err_text *why)
{
    STACK_OF(X509) *certs = tls_certs_read(pem, TLS_AUTHORITIES_MOST, why);
    X509_STORE *store = certs ? X509_STORE_new() : NULL;

    *authorities = NULL;
    for (int i = 0; store && i < sk_X509_num(certs); i++)
        X509_STORE_add_cert(store, sk_X509_value(certs, i));
    if (certs && store == NULL)
        err_set(why, EXIT_INTERNAL, ERR_NO_MEMORY, "no memory for its certificates");
    sk_X509_pop_free(certs, X509_free);
    if (store == NULL)
        return ERR_INVALID;
    *authorities = mem_zalloc(sizeof(**authorities));
    (*authorities)->store = store;
    return 0;
}

void tls_authorities_free(struct tls_authorities *authorities)
{
    if (authorities)
        X509_STORE_free(authorities->store);
    mem_free(authorities);
}

static int tell(X509_STORE_CTX *context, struct err_text *why)
{
    X509 *at = X509_STORE_CTX_get_current_cert(context);
    char name[128] = "no certificate";

    if (at)
        tls_cert_name(at, name, sizeof(name));
    return err_set(why, EXIT_OPTION, ERR_INVALID, "%s (%s)",
                   X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)), name);
}

int tls_verify(const struct tls_cert *cert, const struct tls_authorities *authorities, int64_t now,
               struct err_text *why)
{
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    int code;

    if (context == NULL ||
        !X509_STORE_CTX_init(context, authorities->store, cert->leaf, cert->chain)) {
        code = err_set(why, EXIT_INTERNAL, ERR_NO_MEMORY, "no memory to verify it");
    } else {
        X509_STORE_CTX_set_purpose(context, X509_PURPOSE_SSL_SERVER);
        X509_STORE_CTX_set_time(context, 0, (time_t)now);
        code = X509_verify_cert(context) == 1 ? 0 : tell(context, why);
    }
    X509_STORE_CTX_free(context);
    ERR_clear_error();
    return code;
}
