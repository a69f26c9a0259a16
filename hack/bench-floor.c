// The floor of a container's run: the system calls that nobody can leave out for the bundle of hack/bench-runtime, and
// nothing else: no JSON, no state, no checks. bench-floor ROOTFS runs ROOTFS/bin/true in new namespaces and a new cgroup.
//
// Cgroups are joined as is cheapest: by birth (CLONE_INTO_CGROUP) in the cgroup2 hierarchy, by the child itself in v1 ones.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROOT "/sys/fs/cgroup"
#define MAX_HIERARCHIES 16
#define COUNT(list) (sizeof(list) / sizeof *(list))
#define HARDENED (MS_NOSUID | MS_NOEXEC | MS_NODEV)

struct hierarchy {
    char name[64];
    char folder[160];
    int is_v2;
};

static struct hierarchy hierarchies[MAX_HIERARCHIES];
static size_t hierarchy_count;

static void check(long result, const char *what)
{
    if (result >= 0)
        return;
    dprintf(2, "bench-floor: %s: %s\n", what, strerror(errno));
    _exit(111);
}

static void write_file(const char *folder, const char *name, const char *value)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    check(file, path);
    check(write(file, value, strlen(value)), path);
    close(file);
}

static void add_hierarchy(const char *name, const char *root)
{
    struct statfs found;
    struct stat link;
    if (lstat(root, &link) || S_ISLNK(link.st_mode) || statfs(root, &found) || hierarchy_count == MAX_HIERARCHIES)
        return;
    if (found.f_type != CGROUP_SUPER_MAGIC && found.f_type != CGROUP2_SUPER_MAGIC)
        return;
    struct hierarchy *next = &hierarchies[hierarchy_count++];
    snprintf(next->name, sizeof next->name, "%s", name);
    snprintf(next->folder, sizeof next->folder, "%s/bench-floor-%d", root, getpid());
    next->is_v2 = found.f_type == CGROUP2_SUPER_MAGIC;
}

static void find_hierarchies(void)
{
    add_hierarchy("", ROOT);
    if (hierarchy_count)
        return;
    DIR *folder = opendir(ROOT);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char root[128];
        snprintf(root, sizeof root, "%s/%.64s", ROOT, entry->d_name);
        if (entry->d_name[0] != '.')
            add_hierarchy(entry->d_name, root);
    }
    if (folder)
        closedir(folder);
}

static void make_cgroups(void)
{
    static const char *const allowed[] = {"c *:* m",   "b *:* m",   "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm",
                                          "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"};
    for (size_t i = 0; i < hierarchy_count; i++) {
        struct hierarchy *each = &hierarchies[i];
        check(mkdir(each->folder, 0755), each->folder);
        if (!strcmp(each->name, "cpuset")) {
            write_file(each->folder, "cpuset.cpus", "0");
            write_file(each->folder, "cpuset.mems", "0");
        }
        if (!strcmp(each->name, "devices")) {
            write_file(each->folder, "devices.deny", "a");
            for (size_t j = 0; j < COUNT(allowed); j++)
                write_file(each->folder, "devices.allow", allowed[j]);
        }
    }
}

static void remove_cgroups(void)
{
    for (size_t i = 0; i < hierarchy_count; i++)
        while (rmdir(hierarchies[i].folder) && errno == EBUSY)
            usleep(200);
}

static void join_cgroups(void)
{
    for (size_t i = 0; i < hierarchy_count; i++)
        if (!hierarchies[i].is_v2)
            write_file(hierarchies[i].folder, "tasks", "0");
}

static void mount_cgroups(void)
{
    if (hierarchy_count == 1 && hierarchies[0].is_v2) {
        check(mount(hierarchies[0].folder, "sys/fs/cgroup", 0, MS_BIND, 0), "cgroup");
    } else {
        check(mount("tmpfs", "sys/fs/cgroup", "tmpfs", HARDENED, "mode=755"), "cgroups");
        for (size_t i = 0; i < hierarchy_count; i++) {
            char path[128];
            snprintf(path, sizeof path, "sys/fs/cgroup/%.63s", hierarchies[i].name);
            mkdir(path, 0755);
            check(mount(hierarchies[i].folder, path, 0, MS_BIND, 0), path);
            check(mount(0, path, 0, MS_BIND | MS_REMOUNT | MS_RDONLY | HARDENED, 0), path);
        }
    }
    check(mount(0, "sys/fs/cgroup", 0, MS_BIND | MS_REMOUNT | MS_RDONLY | HARDENED, 0), "read-only cgroups");
}

static void mount_all(const char *root)
{
    check(mount(0, "/", 0, MS_REC | MS_SLAVE, 0), "slave");
    check(mount(root, root, 0, MS_BIND | MS_REC, 0), root);
    check(mount(0, root, 0, MS_PRIVATE | MS_REC, 0), root);
    check(chdir(root), root);
    check(mount("proc", "proc", "proc", 0, 0), "proc");
    check(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "dev");
    mkdir("dev/pts", 0755);
    check(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"), "pts");
    mkdir("dev/shm", 0755);
    check(mount("shm", "dev/shm", "tmpfs", HARDENED, "mode=1777,size=65536k"), "shm");
    mkdir("dev/mqueue", 0755);
    check(mount("mqueue", "dev/mqueue", "mqueue", HARDENED, 0), "mqueue");
    check(mount("sysfs", "sys", "sysfs", HARDENED | MS_RDONLY, 0), "sysfs");
    mount_cgroups();
}

static void make_devices(void)
{
    static const struct { const char *path; int major, minor; } nodes[] = {
        {"dev/null", 1, 3},   {"dev/zero", 1, 5},    {"dev/full", 1, 7},
        {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
    };
    static const char *const links[][2] = {
        {"/proc/self/fd", "dev/fd"},       {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
        {"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"},
    };
    umask(0);
    for (size_t i = 0; i < COUNT(nodes); i++)
        check(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), nodes[i].path);
    for (size_t i = 0; i < COUNT(links); i++)
        check(symlink(links[i][0], links[i][1]), links[i][1]);
}

static void protect_paths(void)
{
    static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    static const char *const masked[] = {"/proc/acpi",        "/proc/asound",      "/proc/kcore", "/proc/keys",
                                         "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                                         "/sys/firmware",     "/proc/scsi"};
    for (size_t i = 0; i < COUNT(read_only); i++)
        if (!mount(read_only[i], read_only[i], 0, MS_BIND | MS_REC, 0))
            check(mount(0, read_only[i], 0, MS_BIND | MS_REMOUNT | MS_RDONLY, 0), read_only[i]);
    for (size_t i = 0; i < COUNT(masked); i++) {
        struct stat found;
        if (stat(masked[i], &found))
            continue;
        if (S_ISDIR(found.st_mode))
            check(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1"), masked[i]);
        else
            check(mount("/dev/null", masked[i], 0, MS_BIND, 0), masked[i]);
    }
}

static void drop_privileges(void)
{
    const unsigned kept = 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE | 1u << CAP_AUDIT_WRITE;
    for (int number = 0; number <= CAP_LAST_CAP; number++)
        if (!(number < 32 && kept >> number & 1))
            prctl(PR_CAPBSET_DROP, number);
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {{kept, kept, 0}, {0, 0, 0}};
    check(syscall(SYS_capset, &header, sets), "capabilities");
    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
}

static void become_container(const char *root)
{
    char *arguments[] = {"/bin/true", 0}, *environment[] = {"PATH=/bin", 0};
    join_cgroups();
    mount_all(root);
    make_devices();
    check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(umount2(".", MNT_DETACH), "unmount the host's root");
    check(chdir("/"), "/");
    check(sethostname("bench", 5), "hostname");
    protect_paths();
    // The root filesystem of the bundle is read-only.
    check(mount(0, "/", 0, MS_BIND | MS_REMOUNT | MS_RDONLY, 0), "read-only root");
    drop_privileges();
    check(execve(arguments[0], arguments, environment), arguments[0]);
}

int main(int count, char **arguments)
{
    if (count != 2)
        return 2;
    find_hierarchies();
    make_cgroups();
    struct clone_args how = {
        .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET,
        .exit_signal = SIGCHLD,
    };
    for (size_t i = 0; i < hierarchy_count; i++) {
        if (!hierarchies[i].is_v2)
            continue;
        how.flags |= CLONE_INTO_CGROUP;
        how.cgroup = open(hierarchies[i].folder, O_PATH | O_CLOEXEC);
    }
    pid_t child = syscall(SYS_clone3, &how, sizeof how);
    check(child, "clone3");
    if (!child)
        become_container(arguments[1]);
    int status;
    check(waitpid(child, &status, 0), "wait");
    remove_cgroups();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 112;
}
