"""The local engine: a background process on loopback that serves the AWS APIs a stack uses.

`control` starts, finds and stops it and imports nothing heavy; everything else runs inside it.
Only this package knows the emulator (`ministack`), which the extra `asyncjobs[local]` installs.
"""
