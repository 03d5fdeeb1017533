"""Which system calls a session may make, and their numbers on x86-64 and aarch64.

Numbers: ``arch/x86/entry/syscalls/syscall_64.tbl`` and ``include/uapi/asm-generic/unistd.h`` of Linux 6.x.
"""

from __future__ import annotations


def _table(text: str) -> dict[str, int]:
    """Names and numbers out of ``name=number`` pairs."""
    return {name: int(number) for name, number in (pair.split("=") for pair in text.split())}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ALLOWED = _names(
    # files that are already open, and the ones that Landlock and the mounts let be opened
    "read write recvmsg readv writev pread64 pwrite64 preadv pwritev close close_range lseek dup dup2 dup3 pipe pipe2 "
    "open openat access faccessat faccessat2 stat fstat lstat newfstatat statx statfs fstatfs readlink readlinkat "
    "getdents64 getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 "
    "ftruncate fsync fdatasync fallocate fadvise64 copy_file_range sendfile "
    # memory
    "brk mmap munmap mprotect mremap madvise msync "
    # threads of this process (`clone` is looked at more closely) and their signals
    "clone futex set_robust_list rseq sched_yield sched_getaffinity getcpu gettid "
    "rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall "
    # time and waiting
    "clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getitimer setitimer alarm pause "
    "poll ppoll select pselect6 wait4 "
    # who and where am I
    "getpid getppid getuid geteuid getgid getegid getgroups getpgrp getrandom getrusage sysinfo uname "
    # looked at more closely
    "fcntl ioctl prlimit64 "
    # the end
    "exit exit_group"
)
"""Everything else is refused."""

PRETENDED = _names("chmod fchmod fchmodat fchmodat2 utimensat umask")
"""Answered with success and not done: `shutil.copy` goes on, and no file outside can be touched through them."""

MISSING = _names("clone3 openat2")
"""Answered with ENOSYS, so that the C library falls back to calls whose arguments a filter can read."""

UNSUPPORTED = _names("listxattr llistxattr flistxattr")
"""Answered with ENOTSUP, as a file system does that has no such thing: `shutil.copy2` goes on."""

X86_64 = _table(
    "read=0 write=1 open=2 close=3 stat=4 fstat=5 lstat=6 poll=7 lseek=8 mmap=9 mprotect=10 munmap=11 brk=12 "
    "rt_sigaction=13 rt_sigprocmask=14 rt_sigreturn=15 ioctl=16 pread64=17 pwrite64=18 readv=19 writev=20 "
    "access=21 pipe=22 select=23 sched_yield=24 mremap=25 msync=26 madvise=28 dup=32 dup2=33 pause=34 "
    "nanosleep=35 getitimer=36 alarm=37 setitimer=38 getpid=39 sendfile=40 socket=41 connect=42 sendto=44 recvmsg=47 "
    "socketpair=53 clone=56 fork=57 vfork=58 execve=59 exit=60 wait4=61 kill=62 uname=63 shmget=29 fcntl=72 "
    "fsync=74 fdatasync=75 truncate=76 ftruncate=77 getcwd=79 chdir=80 fchdir=81 rename=82 mkdir=83 rmdir=84 "
    "link=86 unlink=87 symlink=88 readlink=89 chmod=90 fchmod=91 chown=92 umask=95 gettimeofday=96 "
    "getrusage=98 sysinfo=99 times=100 ptrace=101 getuid=102 getgid=104 geteuid=107 getegid=108 getppid=110 "
    "getpgrp=111 getgroups=115 sigaltstack=131 mknod=133 personality=135 statfs=137 fstatfs=138 "
    "pivot_root=155 prctl=157 mount=165 umount2=166 gettid=186 setxattr=188 "
    "listxattr=194 llistxattr=195 flistxattr=196 tkill=200 time=201 futex=202 "
    "sched_setaffinity=203 sched_getaffinity=204 io_setup=206 getdents64=217 restart_syscall=219 "
    "fadvise64=221 clock_gettime=228 clock_getres=229 clock_nanosleep=230 exit_group=231 tgkill=234 "
    "add_key=248 request_key=249 keyctl=250 openat=257 mkdirat=258 newfstatat=262 unlinkat=263 renameat=264 "
    "linkat=265 symlinkat=266 readlinkat=267 fchmodat=268 faccessat=269 pselect6=270 ppoll=271 unshare=272 "
    "set_robust_list=273 utimensat=280 fallocate=285 dup3=292 pipe2=293 preadv=295 pwritev=296 "
    "perf_event_open=298 prlimit64=302 open_by_handle_at=304 setns=308 getcpu=309 process_vm_readv=310 "
    "process_vm_writev=311 renameat2=316 seccomp=317 getrandom=318 memfd_create=319 bpf=321 execveat=322 "
    "userfaultfd=323 copy_file_range=326 statx=332 rseq=334 pidfd_send_signal=424 io_uring_setup=425 "
    "io_uring_enter=426 open_tree=428 move_mount=429 pidfd_open=434 clone3=435 close_range=436 openat2=437 "
    "pidfd_getfd=438 faccessat2=439 process_madvise=440 memfd_secret=447 fchmodat2=452"
)
"""Numbers on x86-64, of the calls named above and of those that tests name."""

AARCH64 = _table(
    "io_setup=0 setxattr=5 listxattr=11 llistxattr=12 flistxattr=13 "
    "getcwd=17 dup=23 dup3=24 fcntl=25 ioctl=29 mknodat=33 mkdirat=34 unlinkat=35 "
    "symlinkat=36 linkat=37 renameat=38 umount2=39 mount=40 pivot_root=41 statfs=43 fstatfs=44 truncate=45 "
    "ftruncate=46 fallocate=47 faccessat=48 chdir=49 fchdir=50 fchmod=52 fchmodat=53 openat=56 close=57 "
    "pipe2=59 getdents64=61 lseek=62 read=63 write=64 readv=65 writev=66 pread64=67 pwrite64=68 preadv=69 "
    "pwritev=70 sendfile=71 pselect6=72 ppoll=73 readlinkat=78 newfstatat=79 fstat=80 fsync=82 fdatasync=83 "
    "utimensat=88 personality=92 exit=93 exit_group=94 unshare=97 futex=98 set_robust_list=99 nanosleep=101 "
    "getitimer=102 setitimer=103 clock_gettime=113 clock_getres=114 clock_nanosleep=115 ptrace=117 "
    "sched_setaffinity=122 sched_getaffinity=123 sched_yield=124 restart_syscall=128 kill=129 tkill=130 "
    "tgkill=131 sigaltstack=132 rt_sigaction=134 rt_sigprocmask=135 rt_sigreturn=139 times=153 getgroups=158 "
    "uname=160 getrusage=165 umask=166 prctl=167 getcpu=168 gettimeofday=169 getpid=172 getppid=173 "
    "getuid=174 geteuid=175 getgid=176 getegid=177 gettid=178 sysinfo=179 shmget=194 socket=198 "
    "socketpair=199 connect=203 sendto=206 recvmsg=212 brk=214 munmap=215 mremap=216 add_key=217 request_key=218 "
    "keyctl=219 clone=220 execve=221 mmap=222 fadvise64=223 mprotect=226 msync=227 madvise=233 "
    "perf_event_open=241 wait4=260 prlimit64=261 open_by_handle_at=265 setns=268 process_vm_readv=270 "
    "process_vm_writev=271 renameat2=276 seccomp=277 getrandom=278 memfd_create=279 bpf=280 execveat=281 "
    "userfaultfd=282 copy_file_range=285 statx=291 rseq=293 pidfd_send_signal=424 io_uring_setup=425 "
    "io_uring_enter=426 open_tree=428 move_mount=429 pidfd_open=434 clone3=435 close_range=436 openat2=437 "
    "pidfd_getfd=438 faccessat2=439 process_madvise=440 memfd_secret=447 fchmodat2=452"
)
"""Numbers on aarch64; calls that exist on x86-64 only (``open``, ``stat``, ...) are absent."""

LAST_KNOWN = 462
"""Newest number the list above was checked against: a refused call up to it fails with EPERM, a newer one with ENOSYS,
so that a C library from the future falls back instead of failing."""
