/*
 * Why a message is refused: the status for the peer and the reason for the error log, in HTTP.sys's
 * words (reference/http-sys.md section 18.1), with a detail for people. All texts are static.
 */
#ifndef HTTP_REFUSAL_H
#define HTTP_REFUSAL_H

struct refusal {
    int status;         /* 400, 403, 413, 414, 431, 501, 505 … */
    const char *reason; /* "BadRequest", "Hostname", "FieldLength" … */
    const char *detail; /* "a bare CR in a field value" … */
};

#endif
