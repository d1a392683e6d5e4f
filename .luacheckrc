std = "luajit"
max_line_length = 100
codes = true
-- A method may ignore its object, a callback its arguments.
self = false
unused_args = false

files["spec"] = { std = "+busted" }
