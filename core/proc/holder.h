/* Who has a port: for the message that it is in use. */
#ifndef PROC_HOLDER_H
#define PROC_HOLDER_H

#include <stddef.h>
#include <stdint.h>

/* Writes "NAME, process N" of one that listens on the TCP port; "" when /proc does not tell, as for
 * processes of other users. */
void holder_of_port(uint16_t port, char *out, size_t room);

#endif
