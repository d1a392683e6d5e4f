#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "neap.h"

const char *neap_version(void)
{
    return "0.1.0";
}
