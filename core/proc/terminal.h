/* What others wrote, printed: it gives the terminal no commands and begins no line of its own. */
#ifndef PROC_TERMINAL_H
#define PROC_TERMINAL_H

#include <stdio.h>

/* Prints text (UTF-8) with '?' for each control in it. */
void terminal_print(FILE *out, const char *text);

#endif
