/* header.c - the contract header, as text, inside the library.
 *
 * Lua hands it to ffi.cdef, so the declarations that scripts see are the ones
 * this library was compiled from. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "neap.h"

__asm__(".section .rodata\n"
        ".global neap_header_text\n"
        ".hidden neap_header_text\n"
        "neap_header_text:\n"
        ".incbin \"" NEAP_HEADER "\"\n" /* src/neap.h, but in the tiny mode */
        ".byte 0\n"
        ".previous\n");

extern const char neap_header_text[];

const char *neap_header(void)
{
    return neap_header_text;
}
