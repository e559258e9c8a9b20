/* OpenSSL's side of the tickets. */
#ifndef TLS_TLS_TICKET_PRIV_H
#define TLS_TLS_TICKET_PRIV_H

#include "tls/openssl_priv.h"

#include "tls/tls_ticket.h"

/* As SSL_CTX_set_tlsext_ticket_key_evp_cb wants it, with the keys beside. */
int tls_tickets_use(const struct tls_tickets *tickets, unsigned char *name, unsigned char *iv,
                    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seals);

#endif
