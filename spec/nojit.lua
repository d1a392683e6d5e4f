--- Given to busted with --helper: the specs, and the scripts that they start (spec/helper.lua),
--- run without the JIT compiler.

require("jit").off()
