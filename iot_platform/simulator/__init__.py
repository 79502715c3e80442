"""What stands in for real devices: a seeded fleet (``simulation``), and other people's files (``replay``).

Both send through one producer (``producer``), check every message against its contract first, and register the devices
that they bring. Nothing here is needed where real devices send.
"""
