/* header.c - host.h, as text, inside the program: Lua hands it to ffi.cdef. */
#include <stdbool.h>

#include "host/host.h"

__asm__(".section .rodata\n"
        ".global neap_host_header_text\n"
        ".hidden neap_host_header_text\n"
        "neap_host_header_text:\n"
        ".incbin \"src/host/host.h\"\n"
        ".byte 0\n"
        ".previous\n");

extern const char neap_host_header_text[];

const char *neap_host_header(void)
{
    return neap_host_header_text;
}
