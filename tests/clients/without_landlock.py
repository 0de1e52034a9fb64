"""Runs a program as on a kernel without Landlock.

    python3 tests/clients/without_landlock.py program [argument …]

The program and what it starts get ENOSYS from Landlock's three system calls, by a seccomp filter (seccomp(2)).
"""

import ctypes
import errno
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW = 0x00050000, 0x7FFF0000
LOAD, IF_AT_LEAST, IF_ABOVE, RETURN = 0x20, 0x35, 0x25, 0x06
# landlock_create_ruleset, landlock_add_rule and landlock_restrict_self have the same numbers on all architectures.
FIRST, LAST = 444, 446


def instruction(code, if_true, if_false, value):
    return struct.pack("HBBI", code, if_true, if_false, value)


def main():
    program = b"".join([
        instruction(LOAD, 0, 0, 0),
        instruction(IF_AT_LEAST, 0, 2, FIRST),
        instruction(IF_ABOVE, 1, 0, LAST),
        instruction(RETURN, 0, 0, SECCOMP_RET_ERRNO | errno.ENOSYS),
        instruction(RETURN, 0, 0, SECCOMP_RET_ALLOW),
    ])
    kept = ctypes.create_string_buffer(program)
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(kept)))
    library = ctypes.CDLL(None, use_errno=True)
    for call in [(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(head), 0, 0)]:
        if library.prctl(call[0], *map(ctypes.c_ulong, call[1:])) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    os.execvp(sys.argv[1], sys.argv[1:])


main()
