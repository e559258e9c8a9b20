/* Codecs that several readers need: hexadecimal digits, alone and as the pair behind a '%'. */
#ifndef BASE_CODEC_H
#define BASE_CODEC_H

/* 0–15, or -1 when digit is no hexadecimal digit. */
static inline int codec_hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return -1;
}

/* 0–255, or -1 when the two bytes at digits are not both hexadecimal digits. */
static inline int codec_hex_pair(const char *digits)
{
    int high = codec_hex_digit(digits[0]), low = codec_hex_digit(digits[1]);

    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

#endif
