/* A program that has escaped the engine, as far as the kernel can tell: it makes another process, which hosts a Wasm
 * guest, execute system calls of our choice, on its own thread and with its own rights, and prints what each returned.
 *
 *     intruder PID ATTEMPT...       prints "NAME RESULT" for each; RESULT is 0 or more, or a negative errno
 *
 * The host may do that (ptrace(2) with CAP_SYS_PTRACE); what is seen is what the process itself may do. x86_64 only. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

static pid_t pid;
static struct user_regs_struct saved;
static uint64_t scratch;

static void must(long result, const char *what) {
    if (result < 0) { perror(what); exit(2); }
}

/* Writes bytes into the other process, below its stack; returns their address there. */
static uint64_t put(const void *bytes, size_t length) {
    uint64_t at = scratch;
    for (size_t i = 0; i < length; i += 8) {
        uint64_t word = 0;
        memcpy(&word, (const char *)bytes + i, length - i < 8 ? length - i : 8);
        must(ptrace(PTRACE_POKEDATA, pid, at + i, word), "PTRACE_POKEDATA");
    }
    scratch += (length + 15) & ~15ul;
    return at;
}

static uint64_t text(const char *s) { return put(s, strlen(s) + 1); }

static long inject(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
    struct user_regs_struct r = saved;
    int status;
    r.rip = saved.rip - 2; /* the syscall instruction that it stopped behind */
    r.rax = nr; r.orig_rax = -1;
    r.rdi = a; r.rsi = b; r.rdx = c; r.r10 = d; r.r8 = e; r.r9 = f;
    must(ptrace(PTRACE_SETREGS, pid, 0, &r), "PTRACE_SETREGS");
    must(ptrace(PTRACE_SINGLESTEP, pid, 0, 0), "PTRACE_SINGLESTEP");
    must(waitpid(pid, &status, __WALL), "waitpid");
    if (!WIFSTOPPED(status)) { printf("ended %d\n", status); exit(3); }
    must(ptrace(PTRACE_GETREGS, pid, 0, &r), "PTRACE_GETREGS");
    return (long)r.rax;
}

#define IS(word) (strcmp(name, word) == 0)
#define S(number, ...) return inject(number, __VA_ARGS__)

static long attempt(const char *name) {
    scratch = (saved.rsp - 65536) & ~15ul;
    const char *path = strchr(name, ':');
    if (strncmp(name, "read:", 5) == 0) S(SYS_openat, AT_FDCWD, text(path + 1), O_RDONLY, 0, 0, 0);
    if (strncmp(name, "list:", 5) == 0) S(SYS_openat, AT_FDCWD, text(path + 1), O_RDONLY | O_DIRECTORY, 0, 0, 0);
    if (strncmp(name, "write:", 6) == 0) S(SYS_openat, AT_FDCWD, text(path + 1), O_WRONLY | O_CREAT, 0666, 0, 0);
    if (strncmp(name, "open:", 5) == 0) S(SYS_open, text(path + 1), O_RDONLY, 0, 0, 0, 0);
    if (strncmp(name, "execve:", 7) == 0) S(SYS_execve, text(path + 1), 0, 0, 0, 0, 0);
    if (strncmp(name, "mknod:", 6) == 0) S(SYS_mknodat, AT_FDCWD, text(path + 1), 0020666, 0x103, 0, 0);
    if (strncmp(name, "chmod:", 6) == 0) S(SYS_fchmodat, AT_FDCWD, text(path + 1), 04777, 0, 0, 0);
    if (strncmp(name, "above:", 6) == 0) {
        long fd = inject(SYS_openat, AT_FDCWD, text(path + 1), O_RDONLY | O_DIRECTORY, 0, 0, 0);
        return fd < 0 ? 0 : inject(SYS_openat, fd, text("../../../../etc/passwd"), O_RDONLY, 0, 0, 0);
    }
    if (IS("getpid")) S(SYS_getpid, 0, 0, 0, 0, 0, 0);
    if (IS("execveat")) S(SYS_execveat, 0, text(""), 0, 0, AT_EMPTY_PATH, 0);
    if (IS("fork")) S(SYS_fork, 0, 0, 0, 0, 0, 0);
    if (IS("vfork")) S(SYS_vfork, 0, 0, 0, 0, 0, 0);
    if (IS("clone")) S(SYS_clone, 17, 0, 0, 0, 0, 0);
    if (IS("clone-newuser")) S(SYS_clone, 0x10000000 | 0x50f00, 0, 0, 0, 0, 0);
    if (IS("clone3")) { uint64_t args[11] = {0, 0, 0, 0, 17}; S(SYS_clone3, put(args, 88), 88, 0, 0, 0, 0); }
    if (IS("socket-tcp")) S(SYS_socket, 2, 1, 0, 0, 0, 0);
    if (IS("socket-udp")) S(SYS_socket, 2, 2, 0, 0, 0, 0);
    if (IS("socket-unix")) S(SYS_socket, 1, 1, 0, 0, 0, 0);
    if (IS("socket-raw")) S(SYS_socket, 2, 3, 1, 0, 0, 0);
    if (IS("socket-netlink")) S(SYS_socket, 16, 3, 0, 0, 0, 0);
    if (IS("socket-packet")) S(SYS_socket, 17, 3, 0, 0, 0, 0);
    if (IS("socket-alg")) S(SYS_socket, 38, 5, 0, 0, 0, 0);
    if (IS("socket-vsock")) S(SYS_socket, 40, 1, 0, 0, 0, 0);
    if (IS("socketpair")) S(SYS_socketpair, 1, 1, 0, put("12345678", 8), 0, 0);
    if (IS("kill-all")) S(SYS_kill, -1, 9, 0, 0, 0, 0);
    if (IS("kill-2")) S(SYS_kill, 2, 9, 0, 0, 0, 0);
    if (IS("tgkill")) S(SYS_tgkill, 1, 1, 9, 0, 0, 0);
    if (IS("pidfd-open")) S(SYS_pidfd_open, 1, 0, 0, 0, 0, 0);
    if (IS("pidfd-signal")) S(SYS_pidfd_send_signal, 0, 9, 0, 0, 0, 0);
    if (IS("pidfd-getfd")) S(SYS_pidfd_getfd, 0, 0, 0, 0, 0, 0);
    if (IS("ptrace")) S(SYS_ptrace, PTRACE_ATTACH, 1, 0, 0, 0, 0);
    if (IS("vm-read")) S(SYS_process_vm_readv, 1, 0, 0, 0, 0, 0);
    if (IS("vm-write")) S(SYS_process_vm_writev, 1, 0, 0, 0, 0, 0);
    if (IS("mount")) S(SYS_mount, text("none"), text("/"), text("tmpfs"), 0, 0, 0);
    if (IS("remount")) S(SYS_mount, 0, text("/"), 0, 32, 0, 0);
    if (IS("umount")) S(SYS_umount2, text("/"), 2, 0, 0, 0, 0);
    if (IS("open-tree")) S(SYS_open_tree, AT_FDCWD, text("/"), 1, 0, 0, 0);
    if (IS("fsopen")) S(SYS_fsopen, text("proc"), 0, 0, 0, 0, 0);
    if (IS("pivot-root")) S(SYS_pivot_root, text("/"), text("/"), 0, 0, 0, 0);
    if (IS("chroot")) S(SYS_chroot, text("/"), 0, 0, 0, 0, 0);
    if (IS("unshare-user")) S(SYS_unshare, 0x10000000, 0, 0, 0, 0, 0);
    if (IS("unshare-mount")) S(SYS_unshare, 0x20000, 0, 0, 0, 0, 0);
    if (IS("setns")) S(SYS_setns, 0, 0, 0, 0, 0, 0);
    if (IS("bpf")) S(SYS_bpf, 0, 0, 0, 0, 0, 0);
    if (IS("perf")) { char attr[128] = {1}; S(SYS_perf_event_open, put(attr, 128), 0, -1, -1, 0, 0); }
    if (IS("io-uring")) { char p[128] = {0}; S(SYS_io_uring_setup, 1, put(p, 128), 0, 0, 0, 0); }
    if (IS("userfaultfd")) S(SYS_userfaultfd, 1, 0, 0, 0, 0, 0);
    if (IS("keyctl")) S(SYS_keyctl, 0, -3, 0, 0, 0, 0);
    if (IS("add-key")) S(SYS_add_key, text("user"), text("a"), text("b"), 1, -3, 0);
    if (IS("module")) S(SYS_finit_module, 0, text(""), 0, 0, 0, 0);
    if (IS("kexec")) S(SYS_kexec_load, 0, 0, 0, 0, 0, 0);
    if (IS("reboot")) S(SYS_reboot, 0xfee1dead, 672274793, 0, 0, 0, 0);
    if (IS("swapon")) S(SYS_swapon, text("/"), 0, 0, 0, 0, 0);
    if (IS("sethostname")) S(SYS_sethostname, text("x"), 1, 0, 0, 0, 0);
    if (IS("settime")) { uint64_t t[2] = {1}; S(SYS_clock_settime, 0, put(t, 16), 0, 0, 0, 0); }
    if (IS("setuid")) S(SYS_setuid, 0, 0, 0, 0, 0, 0);
    if (IS("setgroups")) S(SYS_setgroups, 0, 0, 0, 0, 0, 0);
    if (IS("capset")) { uint32_t h[2] = {0x20080522}, s[6] = {-1, -1}; S(SYS_capset, put(h, 8), put(s, 24), 0, 0, 0, 0); }
    if (IS("seccomp")) S(SYS_seccomp, 1, 0, 0, 0, 0, 0);
    if (IS("dumpable")) S(SYS_prctl, 4, 1, 0, 0, 0, 0);
    if (IS("personality")) S(SYS_personality, 0x0400000, 0, 0, 0, 0, 0);
    if (IS("handle")) { char h[32] = {8}; S(SYS_open_by_handle_at, AT_FDCWD, put(h, 32), 0, 0, 0, 0); }
    if (IS("syslog")) S(SYS_syslog, 10, 0, 0, 0, 0, 0);
    if (IS("shm")) S(SYS_shmget, 0, 4096, 01600, 0, 0, 0);
    if (IS("msg")) S(SYS_msgget, 0, 01600, 0, 0, 0, 0);
    if (IS("mq")) S(SYS_mq_open, text("x"), O_CREAT | O_RDWR, 0600, 0, 0, 0);
    if (IS("inotify")) S(SYS_inotify_init1, 0, 0, 0, 0, 0, 0);
    if (IS("fanotify")) S(SYS_fanotify_init, 0, 0, 0, 0, 0, 0);
    if (IS("tiocsti")) S(SYS_ioctl, 0, 0x5412, text("x"), 0, 0, 0);
    if (IS("setown")) S(SYS_fcntl, 0, F_SETOWN, 1, 0, 0, 0);
    if (IS("map-code")) S(SYS_mmap, 0, 4096, 7, 0x22, -1, 0);
    if (IS("make-code")) S(SYS_mprotect, saved.rsp & ~4095ul, 4096, 5, 0, 0, 0);
    if (IS("memfd-exec")) S(SYS_memfd_create, text("x"), 0x10, 0, 0, 0, 0);
    if (IS("scheduler")) { int p[1] = {1}; S(SYS_sched_setscheduler, 0, 1, put(p, 4), 0, 0, 0); }
    if (IS("rlimit")) { uint64_t l[2] = {-1, -1}; S(SYS_prlimit64, 0, 7, put(l, 16), 0, 0, 0); }
    fprintf(stderr, "no attempt is called %s\n", name);
    exit(2);
}

int main(int argc, char **argv) {
    int status;
    if (argc < 3) return 2;
    pid = atoi(argv[1]);
    must(ptrace(PTRACE_ATTACH, pid, 0, 0), "PTRACE_ATTACH");
    must(waitpid(pid, &status, __WALL), "waitpid");
    must(ptrace(PTRACE_GETREGS, pid, 0, &saved), "PTRACE_GETREGS");
    long code = ptrace(PTRACE_PEEKTEXT, pid, saved.rip - 2, 0);
    if ((code & 0xffff) != 0x050f) { fprintf(stderr, "it is not in a system call: %lx\n", code & 0xffff); return 4; }
    for (int i = 2; i < argc; i++) printf("%s %ld\n", argv[i], attempt(argv[i]));
    must(ptrace(PTRACE_SETREGS, pid, 0, &saved), "PTRACE_SETREGS");
    must(ptrace(PTRACE_DETACH, pid, 0, 0), "PTRACE_DETACH");
    return 0;
}
