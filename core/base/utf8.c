/* Overlong forms, surrogates and what lies above U+10FFFF are no UTF-8 (RFC 3629). */
#include "base/utf8.h"

size_t utf8_length(struct span text)
{
    const unsigned char *at = (const unsigned char *)text.at;
    unsigned char low = 0x80, high = 0xBF;
    size_t length;

    if (at[0] < 0x80)
        return 1;
    if (at[0] < 0xC2 || at[0] > 0xF4)
        return 0;
    length = at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : 4;
    if (at[0] == 0xE0)
        low = 0xA0;
    else if (at[0] == 0xED)
        high = 0x9F;
    else if (at[0] == 0xF0)
        low = 0x90;
    else if (at[0] == 0xF4)
        high = 0x8F;
    if (text.len < length || at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if (at[i] < 0x80 || at[i] > 0xBF)
            return 0;
    return length;
}

bool utf8_is_printable(struct span text)
{
    for (size_t length; text.len > 0; text = span_skip(text, length)) {
        unsigned char first = (unsigned char)text.at[0];

        length = utf8_length(text);
        if (length == 0 || first < 0x20 || first == 0x7F ||
            (first == 0xC2 && (unsigned char)text.at[1] < 0xA0))
            return false;
    }
    return true;
}
