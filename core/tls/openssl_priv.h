/*
 * OpenSSL's headers for the files of this room; include it before anything of base. OpenSSL 3 still
 * has a type ERR_STATE of its own, which nobody needs and which our error code of that name meets.
 */
#ifndef TLS_OPENSSL_PRIV_H
#define TLS_OPENSSL_PRIV_H

#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#undef ERR_STATE

#endif
