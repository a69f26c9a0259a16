#!/usr/bin/env python3
"""Writes runtime/src/seccomp/testdata/libseccomp.json: what libseccomp's filters say, for ours to be compared with.

usage: generate-seccomp-verdicts.py PROFILE > runtime/src/seccomp/testdata/libseccomp.json

PROFILE is the default profile in Docker's format (cri-server/src/spec/seccomp-default.json). Needs libseccomp.so.2
(made with 2.5.4). Each case is a `linux.seccomp` section, some sets of arguments, and for each architecture the verdicts of
all numbers from 0 to 1023: with the first arguments as runs [first, last, verdict], with the others what differs from it. Besides the profile as it is for usual capabilities and with
CAP_SYS_ADMIN, on two machines, the cases are small sections made up at random from a fixed seed.
"""
import ctypes
import json
import os
import random
import struct
import sys
import tempfile

LIBRARY = ctypes.CDLL("libseccomp.so.2", use_errno=True)
LIBRARY.seccomp_init.restype = ctypes.c_void_p
LIBRARY.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p

# libseccomp's token, the kernel's architecture, what numbers have set.
ARCHITECTURES = {
    "SCMP_ARCH_X86_64": (0xC000003E, 0xC000003E, 0),
    "SCMP_ARCH_X86": (0x40000003, 0x40000003, 0),
    "SCMP_ARCH_X32": (0x4000003E, 0xC000003E, 0x40000000),
    "SCMP_ARCH_AARCH64": (0xC00000B7, 0xC00000B7, 0),
    "SCMP_ARCH_ARM": (0x40000028, 0x40000028, 0),
}
ACTIONS = {
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
OPERATORS = ["", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
             "SCMP_CMP_MASKED_EQ"]
USUAL = {"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
         "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
         "CAP_AUDIT_WRITE"}
NUMBERS = range(1024)


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def resolve(profile, machine, go_arch, held):
    """Docker's conditions decided, all kernels new."""
    def counts(rule):
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        return (set(includes.get("caps") or []) <= held
                and (not includes.get("arches") or go_arch in includes["arches"])
                and not set(excludes.get("caps") or []) & held
                and go_arch not in (excludes.get("arches") or []))

    group = next(entry for entry in profile["archMap"] if entry["architecture"] == machine)
    rules = [{key: rule[key] for key in ("names", "action", "errnoRet", "args") if rule.get(key) is not None}
             for rule in profile["syscalls"] if counts(rule)]
    return {"defaultAction": profile["defaultAction"], "defaultErrnoRet": profile["defaultErrnoRet"],
            "architectures": [machine] + (group["subArchitectures"] or []), "syscalls": rules}


def value(action, errno):
    return ACTIONS[action] | ((1 if errno is None else errno) if action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else 0)


def add(context, action, name, conditions):
    number = LIBRARY.seccomp_syscall_resolve_name(name.encode())
    if number == -1:
        return
    array = (Compare * max(len(conditions), 1))(*conditions)
    result = LIBRARY.seccomp_rule_add_array(ctypes.c_void_p(context), ctypes.c_uint32(action), number,
                                            len(conditions), array)
    assert result == 0, (name, result)


def program(section):
    """What runc does with a section, up to the exported program."""
    default = value(section["defaultAction"], section.get("defaultErrnoRet"))
    context = LIBRARY.seccomp_init(ctypes.c_uint32(default))
    native = ARCHITECTURES["SCMP_ARCH_X86_64"][0]
    for name in section["architectures"]:
        token = ARCHITECTURES[name][0]
        if token != native:
            assert LIBRARY.seccomp_arch_add(ctypes.c_void_p(context), ctypes.c_uint32(token)) == 0
    if "SCMP_ARCH_X86_64" not in section["architectures"]:
        assert LIBRARY.seccomp_arch_remove(ctypes.c_void_p(context), ctypes.c_uint32(native)) == 0
    for rule in section["syscalls"]:
        action = value(rule["action"], rule.get("errnoRet"))
        if action == default:
            continue
        conditions = [Compare(arg["index"], OPERATORS.index(arg["op"]), arg["value"], arg.get("valueTwo", 0))
                      for arg in rule.get("args", [])]
        repeated = len({condition.arg for condition in conditions}) < len(conditions)
        for name in rule["names"]:
            for group in ([[one] for one in conditions] if repeated else [conditions]):
                add(context, action, name, group)
    with tempfile.TemporaryFile() as file:
        assert LIBRARY.seccomp_export_bpf(ctypes.c_void_p(context), file.fileno()) == 0
        file.seek(0)
        text = file.read()
    LIBRARY.seccomp_release(ctypes.c_void_p(context))
    return list(struct.iter_unpack("<HBBI", text))


def run(instructions, number, architecture, arguments):
    data = struct.unpack("<16I", struct.pack("<IIQ6Q", number, architecture, 0, *arguments))
    word, at = 0, 0
    while True:
        code, jt, jf, k = instructions[at]
        at += 1
        if code == 0x20:
            word = data[k // 4]
        elif code == 0x54:
            word &= k
        elif code == 0x05:
            at += k
        elif code == 0x06:
            return k
        else:
            holds = {0x15: word == k, 0x25: word > k, 0x35: word >= k}[code]
            at += jt if holds else jf


def verdicts(instructions, architecture, arguments):
    token, base = ARCHITECTURES[architecture][1:]
    return [run(instructions, number | base, token, arguments) for number in NUMBERS]


def runs(list_):
    found = []
    for number, verdict in enumerate(list_):
        if found and found[-1][2] == verdict:
            found[-1][1] = number
        else:
            found.append([number, number, verdict])
    return found


def by_architecture(instructions, architecture, argument_sets):
    first, *others = (verdicts(instructions, architecture, arguments) for arguments in argument_sets)
    differences = [[[number, verdict] for number, verdict in enumerate(other) if verdict != first[number]]
                   for other in others]
    return {"architecture": architecture, "runs": runs(first), "differences": [[]] + differences}


def case(name, section, argument_sets):
    instructions = program(section)
    found = [by_architecture(instructions, architecture, argument_sets) for architecture in section["architectures"]]
    return {"name": name, "section": section, "length": len(instructions), "arguments": argument_sets, "verdicts": found}


def unknown():
    """Numbers that libseccomp does not know or does not treat as calls of their own."""
    result = {}
    for name, (token, _, base) in ARCHITECTURES.items():
        def known(number):
            return LIBRARY.seccomp_syscall_resolve_num_arch(ctypes.c_uint32(token), number | base)
        result[name] = [number for number in NUMBERS if not known(number)]
    return result


# Calls that every architecture here has and libseccomp treats plainly.
PLAIN = ["read", "write", "close", "dup", "mkdirat", "openat", "prctl", "ioctl", "futex", "clone", "unshare", "mprotect",
         "personality", "sched_yield", "getrandom", "bpf", "keyctl"]
VALUES = [0, 1, 2, 0xFF, 0x7E020000, 0xFFFFFFFE, 0xFFFFFFFF]


def random_section(random_source):
    def rule():
        action = random_source.choice(["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRAP"])
        indexes = random_source.sample(range(6), random_source.choice([0, 1, 1, 1, 2, 3]))
        args = [{"index": index, "value": random_source.choice(VALUES), "op": random_source.choice(OPERATORS[1:])}
                for index in sorted(indexes)]
        for arg in args:
            if arg["op"] == "SCMP_CMP_MASKED_EQ":
                arg["valueTwo"] = random_source.choice(VALUES) & arg["value"]
        result = {"names": random_source.sample(PLAIN, random_source.randrange(1, 6)), "action": action}
        if args:
            result["args"] = args
        return result

    # One rule for a call: where several hold at once, libseccomp leaves open which counts.
    rules, taken = [], set()
    for made in (rule() for _ in range(random_source.randrange(1, 9))):
        made["names"] = [name for name in made["names"] if name not in taken]
        taken |= set(made["names"])
        if made["names"]:
            rules.append(made)
    default = random_source.choice(["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG"])
    architectures = random_source.choice([["SCMP_ARCH_X86_64"], ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                                          ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]])
    section = {"defaultAction": default, "architectures": architectures, "syscalls": rules}
    sets = [[random_source.choice(VALUES) for _ in range(6)] for _ in range(6)]
    return section, sets


def main():
    profile = json.load(open(sys.argv[1]))
    first = [0, 8, 37, 38, 39, 40, 41, 0x20000, 0x20008, 0x10000000, 0x7E020000, 0xFFFFFFFF]
    sets = [[value, 0, 0, 0, 0, 0] for value in first]
    machines = [("SCMP_ARCH_X86_64", "amd64"), ("SCMP_ARCH_AARCH64", "arm64")]
    cases = [case(f"default profile, {machine}, {label}", resolve(profile, machine, go_arch, held), sets)
             for machine, go_arch in machines
             for label, held in [("usual capabilities", USUAL), ("and CAP_SYS_ADMIN", USUAL | {"CAP_SYS_ADMIN"})]]
    random_source = random.Random(2026)
    cases += [case(f"random {index}", *random_section(random_source)) for index in range(60)]
    json.dump({"unknown": unknown(), "cases": cases}, sys.stdout, separators=(",", ":"))
    print()


main()
