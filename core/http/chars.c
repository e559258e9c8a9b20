/*
 * The table of byte classes. Each row is computed by the compiler from the grammar's own words, so
 * that the text below can be held against the RFCs.
 */
#include "http/chars_priv.h"

#define IS_ALPHA(c) (((c) >= 'A' && (c) <= 'Z') || ((c) >= 'a' && (c) <= 'z'))
#define IS_DIGIT(c) ((c) >= '0' && (c) <= '9')
#define IS_ALNUM(c) (IS_ALPHA(c) || IS_DIGIT(c))

#define IS_TOKEN(c)                                                                                \
    (IS_ALNUM(c) || (c) == '!' || ((c) >= '#' && (c) <= '\'') || (c) == '*' || (c) == '+' ||       \
     (c) == '-' || (c) == '.' || ((c) >= '^' && (c) <= '`') || (c) == '|' || (c) == '~')
#define IS_VALUE(c)  ((c) == '\t' || ((c) >= ' ' && (c) != 0x7F))
#define IS_TARGET(c) ((c) > ' ' && (c) < 0x7F && (c) != '#')
#define IS_PLAIN(c)  (IS_TARGET(c) && (c) != '%' && (c) != '?' && (c) != '.')
#define IS_REG_NAME(c)                                                                             \
    (IS_ALNUM(c) || (c) == '-' || (c) == '.' || (c) == '_' || (c) == '~' || (c) == '!' ||          \
     (c) == '$' || ((c) >= '&' && (c) <= ',') || (c) == ';' || (c) == '=')
#define IS_SCHEME(c) (IS_ALNUM(c) || (c) == '+' || (c) == '-' || (c) == '.')

#define ROW(c)                                                                                     \
    ((IS_TOKEN(c) ? CHAR_TOKEN : 0) | (IS_VALUE(c) ? CHAR_VALUE : 0) |                             \
     (IS_TARGET(c) ? CHAR_TARGET : 0) | (IS_PLAIN(c) ? CHAR_PATH_PLAIN : 0) |                      \
     (IS_REG_NAME(c) ? CHAR_REG_NAME : 0) | (IS_SCHEME(c) ? CHAR_SCHEME : 0) |                     \
     (IS_DIGIT(c) ? CHAR_DIGIT : 0) | (IS_ALPHA(c) ? CHAR_ALPHA : 0))
#define ROWS_4(c)  ROW(c), ROW((c) + 1), ROW((c) + 2), ROW((c) + 3)
#define ROWS_16(c) ROWS_4(c), ROWS_4((c) + 4), ROWS_4((c) + 8), ROWS_4((c) + 12)
#define ROWS_64(c) ROWS_16(c), ROWS_16((c) + 16), ROWS_16((c) + 32), ROWS_16((c) + 48)

const uint8_t char_classes[256] = {ROWS_64(0), ROWS_64(64), ROWS_64(128), ROWS_64(192)};
