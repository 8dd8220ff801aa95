"""QEMU as the driver of the machine: all that is QEMU's own is in this room."""
