/* The version of the whole program. */
#ifndef BASE_VERSION_H
#define BASE_VERSION_H

#define MOONQUAY_VERSION "0.1.0"

#endif
