/*
 * The keys of session tickets. Sealing is AES-256-CBC and HMAC-SHA256 (RFC 5077 s.4), which is what
 * OpenSSL's callback is made for and what other servers with the same key file do.
 */
#include "tls/tls_ticket_priv.h"

#include <string.h>

#define MAC_BYTES 32

static const unsigned char *mac_key(const unsigned char *key)
{
    return key + TLS_TICKET_NAME_BYTES;
}

static const unsigned char *cipher_key(const unsigned char *key)
{
    return key + TLS_TICKET_NAME_BYTES + MAC_BYTES;
}

int tls_tickets_set(struct tls_tickets *tickets, struct span keys, struct err_text *why)
{
    size_t count = keys.len / TLS_TICKET_KEY_BYTES;

    if (count == 0 || keys.len % TLS_TICKET_KEY_BYTES != 0 || count > TLS_TICKET_KEYS_MOST)
        return err_set(why, EXIT_OPTION, ERR_INVALID,
                       "%zu bytes: must be 1 to %d keys of %d bytes each, the one that seals first",
                       keys.len, TLS_TICKET_KEYS_MOST, TLS_TICKET_KEY_BYTES);
    OPENSSL_cleanse(tickets, sizeof(*tickets));
    memcpy(tickets->keys, keys.at, keys.len);
    tickets->count = (unsigned)count;
    return 0;
}

int tls_tickets_rotate(struct tls_tickets *tickets)
{
    unsigned char fresh[TLS_TICKET_KEY_BYTES];

    if (RAND_priv_bytes(fresh, sizeof(fresh)) != 1) {
        ERR_clear_error();
        return ERR_IO;
    }
    memmove(tickets->keys[1], tickets->keys[0],
            (TLS_TICKET_KEYS_KEPT - 1) * sizeof(tickets->keys[0]));
    memcpy(tickets->keys[0], fresh, sizeof(fresh));
    OPENSSL_cleanse(fresh, sizeof(fresh));
    if (tickets->count < TLS_TICKET_KEYS_KEPT)
        tickets->count++;
    return 0;
}

static bool set_mac_key(EVP_MAC_CTX *mac, const unsigned char *key)
{
    char digest[] = "SHA256";
    unsigned char copy[MAC_BYTES];
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, copy, sizeof(copy)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    bool is_set;

    memcpy(copy, mac_key(key), sizeof(copy));
    is_set = EVP_MAC_CTX_set_params(mac, params) == 1;
    OPENSSL_cleanse(copy, sizeof(copy));
    return is_set;
}

static int seal(const struct tls_tickets *tickets, unsigned char *name, unsigned char *iv,
                EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    const unsigned char *key = tickets->keys[0];

    if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1 ||
        EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, cipher_key(key), iv) != 1 ||
        !set_mac_key(mac, key))
        return -1;
    memcpy(name, key, TLS_TICKET_NAME_BYTES);
    return 1;
}

static int open_with(const unsigned char *key, const unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac)
{
    return EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, cipher_key(key), iv) == 1 &&
                   set_mac_key(mac, key)
               ? 1
               : -1;
}

int tls_tickets_use(const struct tls_tickets *tickets, unsigned char *name, unsigned char *iv,
                    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seals)
{
    if (seals)
        return seal(tickets, name, iv, cipher, mac);
    for (unsigned i = 0; i < tickets->count; i++) {
        if (memcmp(tickets->keys[i], name, TLS_TICKET_NAME_BYTES) != 0)
            continue;
        if (open_with(tickets->keys[i], iv, cipher, mac) < 0)
            return -1;
        return i == 0 ? 1 : 2; /* 2: and seal it anew */
    }
    return 0;
}
