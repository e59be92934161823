//! What the machine has and what this process took of it (HANDS).

use std::thread;

use tch::Device;

/// Cores this process may use; one where the system does not say.
#[must_use]
pub fn cores() -> u32 {
    thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}

/// Gives libtorch's kernels every core: for the work of a process that has the machine to itself.
pub fn use_every_core() {
    tch::set_num_threads(cores().cast_signed());
}

/// Memory that this process may still take on a device, in bytes; where the system says it.
#[must_use]
pub fn free_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(_) => esta_c10d::free_cuda_memory(),
        _ => {
            let info = std::fs::read_to_string("/proc/meminfo").ok()?;
            let available = kilobytes(&info, "MemAvailable:")?;
            Some(group_memory().map_or(available, |left| left.min(available)))
        }
    }
}

/// What tells this machine from others: one running kernel is one machine, whatever containers call themselves.
#[must_use]
pub fn name() -> String {
    let files = ["/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/hostname"];
    let name = files.iter().find_map(|file| std::fs::read_to_string(file).ok());
    name.map_or_else(|| "node".to_owned(), |name| name.trim().to_owned())
}

/// What the control group of this process leaves it, of version 2 or else 1; none where it sets no limit.
fn group_memory() -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let left = |[limit, used, stat]: [&str; 3], cache| {
        group_left([&read(limit)?, &read(used)?, &read(stat).unwrap_or_default()], cache)
    };
    let second = ["memory.max", "memory.current", "memory.stat"];
    let first = ["memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"];
    left(second, "inactive_file ").or_else(|| left(first, "total_inactive_file "))
}

/// What a group's limit leaves of what it uses. Its use counts cached files, such as weights that were read: the kernel drops
/// those that nobody touches, which `cache` names in the statistics, before the limit hurts.
fn group_left([limit, used, stat]: [&str; 3], cache: &str) -> Option<u64> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let cached = stat.lines().find_map(|line| line.strip_prefix(cache)).and_then(number).unwrap_or(0);
    Some(number(limit)?.saturating_sub(number(used)?.saturating_sub(cached)))
}

/// A line of `/proc` that counts kibibytes, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(1024 * line.split_whitespace().next()?.parse::<u64>().ok()?)
}

/// Resident memory of this process, in bytes; where the system says it.
#[must_use]
pub fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&status, "VmRSS:")
}

/// Peak resident memory of this process, in bytes; where the system says it.
#[must_use]
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&status, "VmHWM:")
}

/// Processor time of this process so far, all threads, in seconds; where the system says it.
#[must_use]
pub fn cpu_seconds() -> Option<f64> {
    processor_time(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// User and system time of a line of /proc/PID/stat, in ticks of a hundredth of a second on the Linux of x86 and Arm.
/// The name, second of all, may hold anything, brackets and blanks too.
fn processor_time(stat: &str) -> Option<f64> {
    const TICKS: f64 = 100.0;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_the_system_are_read_by_name() {
        let info = "MemTotal: 10 kB\nMemAvailable:    7 kB\n";
        assert_eq!((kilobytes(info, "MemAvailable:"), kilobytes(info, "VmHWM:")), (Some(7168), None));
        assert!(free_memory(Device::Cpu).is_some_and(|free| free > 1 << 20));
    }

    #[test]
    fn files_that_a_group_caches_and_nobody_touches_are_no_memory_taken() {
        let stat = "anon 600\nfile 300\ninactive_file 200\nactive_file 100\ntotal_inactive_file 250\n";
        let left = |limit, used, cache| group_left([limit, used, stat], cache);
        assert_eq!(left("1000\n", "900\n", "inactive_file "), Some(300));
        assert_eq!(left("1000\n", "900\n", "total_inactive_file "), Some(350));
        assert_eq!(left("1000\n", "100\n", "inactive_file "), Some(1000), "counters are not read at one moment");
        assert_eq!(left("max\n", "900\n", "inactive_file "), None);
        assert_eq!(group_left(["1000", "900", ""], "inactive_file "), Some(100));
    }

    #[test]
    fn processor_time_is_user_and_system_time_whatever_the_process_is_called() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 1234 66 0 0 20 0 3 0 5 6 7";
        assert_eq!(processor_time(stat), Some(13.0));
        assert_eq!(processor_time("7 (a) S 1"), None);
    }
}
