/* buffers.c - libFuzzer chooses what model.h does. `make fuzz` runs it; one input that it found:
 *
 *     build/fuzz/fuzz/buffers <file> */
#include <stdlib.h>

#include "model.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static bool begun;
    if (!begun) atexit(model_print);
    begun = true;
    model_run(bytes, size);
    return 0;
}
