/* Controls are those of ASCII, and C1 as UTF-8 writes them. */
#include "proc/terminal.h"

void terminal_print(FILE *out, const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at; at++)
        if (*at < 0x20 || *at == 0x7F) {
            putc('?', out);
        } else if (*at == 0xC2 && at[1] >= 0x80 && at[1] < 0xA0) {
            putc('?', out);
            at++;
        } else {
            putc(*at, out);
        }
}
