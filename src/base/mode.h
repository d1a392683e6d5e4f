/* mode.h - builds for tests, which are harsher than a program needs (make modes).
 *
 *   NEAP_MODE_POISON   freed bufs are overwritten, whatever the pool's options say
 *   NEAP_MODE_GUARD    each buf has pages of its own, which nobody can touch while it is free
 *   NEAP_MODE_COLLECT  a step of Lua's collector is due at every allocation
 *   NEAP_MODE_MALLOC   what is allocated, read or taken out of a buffer has a buf of its own, of
 *                      just its size, which is one malloc() and is freed with it: AddressSanitizer
 *                      and valgrind see one byte too far
 *   NEAP_MODE_TINY     what there is much of there is little of, so that each end is reached: bufs
 *                      of 64 bytes, four in a slab and four kept, two pieces in a system call …;
 *                      what the contract says is in tools/tiny
 *
 * Thread: any. */
#pragma once

#ifndef NEAP_MODE_POISON
#define NEAP_MODE_POISON 0
#endif
#ifndef NEAP_MODE_GUARD
#define NEAP_MODE_GUARD 0
#endif
#ifndef NEAP_MODE_COLLECT
#define NEAP_MODE_COLLECT 0
#endif
#ifndef NEAP_MODE_MALLOC
#define NEAP_MODE_MALLOC 0
#endif
#ifndef NEAP_MODE_TINY
#define NEAP_MODE_TINY 0
#endif

#define NEAP_TINY(usual, tiny) (NEAP_MODE_TINY ? (tiny) : (usual))
