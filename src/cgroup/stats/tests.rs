//! Statistics from files as kernels write them.

use super::*;

fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

#[test]
fn v2_files_become_statistics() {
    let dir = group(&[
        (
            "cpu.stat",
            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 2\nthrottled_usec 7\nnr_bursts 1\n",
        ),
        (
            "cpu.pressure",
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=99\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
        ),
        ("memory.current", "4096\n"),
        ("memory.max", "8192\n"),
        ("memory.swap.current", "100\n"),
        ("memory.swap.max", "1000\n"),
        ("memory.stat", "anon 1024\nfile 3072\ninactive_file 2048\n"),
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n"),
        ("pids.current", "2\n"),
        ("pids.max", "10\n"),
        ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n"),
        ("hugetlb.2MB.current", "0\n"),
        ("hugetlb.2MB.rsvd.current", "4194304\n"),
        ("hugetlb.2MB.events", "max 6\n"),
        ("rdma.current", "mlx4_0 hca_handle=2 hca_object=20\n"),
        ("rdma.max", "mlx4_0 hca_handle=3 hca_object=max\n"),
    ]);
    let stats = read(|controller| (controller != "cpuset").then_some((Version::V2, dir.path()))).unwrap();
    let cpu = stats.cpu.unwrap();
    assert_eq!((cpu.usage_ns, cpu.throttled_periods, cpu.throttled_ns, cpu.bursts), (30_000, 2, 7_000, 1));
    let pressure = cpu.pressure.unwrap();
    assert_eq!((pressure.some.avg10, pressure.some.total, pressure.full.total), (1.5, 99, 5));
    let memory = stats.memory.unwrap();
    assert_eq!((memory.usage, memory.limit, memory.inactive_file, memory.oom_kills), (4096, Some(8192), 2048, 1));
    assert_eq!((memory.swap.usage, memory.swap.limit), (100, Some(1000)));
    assert_eq!((memory.memory_and_swap.usage, memory.memory_and_swap.limit), (4196, Some(9192)));
    assert_eq!((memory.raw["file"], memory.pressure), (3072, None));
    assert_eq!(stats.pids, Some(Pids { current: 2, limit: Some(10) }));
    let io = Io { major: 8, minor: 0, read_bytes: 10, write_bytes: 20, reads: 1, writes: 2 };
    assert_eq!(stats.blkio.devices(), [io]);
    assert_eq!(stats.hugetlb["2MB"], HugePages { usage: 4 << 20, peak: 0, failures: 6 });
    let (used, limit) = stats.rdma["mlx4_0"];
    assert_eq!((used.handles, used.objects, limit.handles, limit.objects), (2, 20, 3, u32::MAX));
}

#[test]
fn absent_controllers_have_no_part() {
    let dir = group(&[]);
    let all = |controller: &str| (!["blkio", "cpuset"].contains(&controller)).then_some((Version::V2, dir.path()));
    assert_eq!(read(all).unwrap(), Stats::default());
    assert_eq!(read(|_| None).unwrap(), Stats::default());
}

#[test]
fn v1_files_become_statistics() {
    let dir = group(&[
        ("cpu.stat", "nr_periods 4\nnr_throttled 2\nthrottled_time 7\n"),
        ("cpuacct.usage", "30\n"),
        ("cpuacct.stat", "user 2\nsystem 1\n"),
        ("cpuacct.usage_percpu", "10 20 \n"),
        ("cpuacct.usage_all", "cpu user system\n0 6 4\n1 15 5\n"),
        ("cpuset.cpus", "0-2,7\n"),
        ("cpuset.mems", "0\n"),
        ("cpuset.sched_load_balance", "1\n"),
        ("cpuset.sched_relax_domain_level", "-1\n"),
        ("memory.usage_in_bytes", "4096\n"),
        ("memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory.failcnt", "3\n"),
        ("memory.memsw.usage_in_bytes", "5000\n"),
        ("memory.memsw.limit_in_bytes", "8192\n"),
        ("memory.memsw.failcnt", "5\n"),
        ("memory.kmem.usage_in_bytes", "50\n"),
        ("memory.stat", "cache 1\ntotal_cache 2\ntotal_rss 3\ntotal_swap 904\n"),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ("hugetlb.2MB.usage_in_bytes", "1\n"),
        ("hugetlb.2MB.max_usage_in_bytes", "2\n"),
        ("hugetlb.2MB.failcnt", "3\n"),
    ]);
    let stats = read(|controller| (controller != "cgroup").then_some((Version::V1, dir.path()))).unwrap();
    let cpu = stats.cpu.unwrap();
    assert_eq!((cpu.usage_ns, cpu.user_ns, cpu.system_ns), (30, 20_000_000, 10_000_000));
    assert_eq!((cpu.per_cpu, cpu.per_cpu_user, cpu.per_cpu_system), (vec![10, 20], vec![6, 15], vec![4, 5]));
    let cpuset = stats.cpuset.unwrap();
    assert_eq!((cpuset.cpus, cpuset.mems, cpuset.relax_domain_level), (vec![0, 1, 2, 7], vec![0], -1));
    assert_eq!((cpuset.flags["sched_load_balance"], cpuset.flags["mem_hardwall"]), (1, 0));
    let memory = stats.memory.unwrap();
    assert_eq!((memory.usage, memory.limit, memory.limit_hits, memory.oom_kills), (4096, None, 3, 2));
    assert_eq!((memory.swap.usage, memory.swap.failures, memory.kernel.usage), (904, 2, 50));
    assert_eq!((memory.memory_and_swap.usage, memory.memory_and_swap.limit), (5000, Some(8192)));
    assert_eq!((memory.raw["cache"], memory.file), (1, 2));
    assert_eq!(stats.hugetlb["2MB"], HugePages { usage: 1, peak: 2, failures: 3 });
}

#[test]
fn v1_block_statistics_are_of_the_first_scheduler_that_counts() {
    let dir = group(&[
        ("blkio.bfq.io_service_bytes_recursive", "Total 0\n"),
        ("blkio.throttle.io_service_bytes_recursive", "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n"),
        ("blkio.throttle.io_serviced_recursive", "8:0 Read 1\n8:16 Write 2\n"),
        ("blkio.sectors_recursive", "8:0 77\n"),
    ]);
    let blkio = v1::blkio(&Files(dir.path())).unwrap();
    let io = blkio.devices();
    assert_eq!(io.len(), 2);
    assert_eq!((io[0].read_bytes, io[0].write_bytes, io[0].reads, io[1].writes), (10, 20, 1, 2));
    assert_eq!(blkio.service_bytes[2].op, "Total");
    assert_eq!((&*blkio.sectors[0].op, blkio.sectors[0].value), ("", 77));
}
