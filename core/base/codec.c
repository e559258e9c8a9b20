#include "base/codec.h"

#include <openssl/evp.h>

struct span codec_base64(struct arena *arena, struct span bytes)
{
    char *text = arena_alloc(arena, (bytes.len + 2) / 3 * 4 + 1);
    int len =
        EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)bytes.at, (int)bytes.len);

    return span_of(text, (size_t)len);
}

/* The library pads with zeros what the padding stands for, and takes blanks at the ends. */
struct span codec_base64_read(struct arena *arena, struct span text)
{
    unsigned char *bytes;
    int len;

    if (text.len == 0 || text.len % 4 != 0 || memchr(text.at, ' ', text.len) ||
        memchr(text.at, '\n', text.len))
        return SPAN_NONE;
    bytes = arena_alloc(arena, text.len / 4 * 3);
    len = EVP_DecodeBlock(bytes, (const unsigned char *)text.at, (int)text.len);
    if (len < 0)
        return SPAN_NONE;
    for (size_t i = text.len; i > text.len - 2 && text.at[i - 1] == '='; i--)
        len--;
    return span_of((const char *)bytes, (size_t)len);
}
