"""The commands of `weather-scnn`, a module a group: one thin function each. Heavy imports wait until one runs."""

import rich.console

console = rich.console.Console()
