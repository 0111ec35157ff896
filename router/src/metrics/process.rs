//! The router as a process: its configuration, its threads, and what the system says of it. The numbers
//! of the system come from /proc, and are left out where there is none.
//!
//! The crate `prometheus` could read them too, but it counts the open descriptors one by one, which takes
//! a good part of a second where there are a million.

use std::fs;
use std::time::Duration;

use super::names::{
    BUILD, CPU, DRAINING, LAST_RELOAD, MAX_FDS, OPEN_FDS, RELOADS, RESIDENT, SHARD_BUSY, START_TIME,
};
use super::series::{Page, Series};
use crate::shared::Shared;

pub(super) fn add(page: &mut Page, shared: &Shared) {
    page.add_one(&DRAINING, f64::from(u8::from(shared.is_draining())));
    let (applied, refused) = shared.reloads.read();
    let mut reloads = Series::of(&RELOADS);
    reloads.count(&["applied"], applied);
    reloads.count(&["refused"], refused);
    page.add(reloads);
    let in_force = !shared.reloads.last_was_refused();
    page.add_one(&LAST_RELOAD, f64::from(u8::from(in_force)));
    let mut busy = Series::of(&SHARD_BUSY);
    let threads: Vec<Duration> = shared.fence.busy().collect();
    for (number, worked) in threads.iter().enumerate() {
        let control = number + 1 == threads.len();
        let shard = if control { "control".to_owned() } else { number.to_string() };
        busy.add(&[&shard], worked.as_secs_f64());
    }
    page.add(busy);
    let mut build = Series::of(&BUILD);
    build.count(&[env!("CARGO_PKG_VERSION"), &shared.name], 1);
    page.add(build);
    let from_the_system = [
        (&RESIDENT, resident_bytes()),
        (&CPU, cpu_seconds()),
        (&OPEN_FDS, open_fds()),
        (&MAX_FDS, max_fds()),
        (&START_TIME, start_time()),
    ];
    for (family, value) in from_the_system {
        if let Some(value) = value {
            page.add_one(family, value);
        }
    }
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(number(kib.trim().strip_suffix(" kB")?)? * 1024.0)
}

fn cpu_seconds() -> Option<f64> {
    let stat = Stat::read()?;
    Some((stat.field(14)? + stat.field(15)?) / TICKS_PER_SECOND)
}

fn open_fds() -> Option<f64> {
    // The size of the directory is how many there are, as of Linux 6.2.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64),
        count => Some(count as f64),
    }
}

fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    number(soft.split_whitespace().next()?)
}

fn start_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot = number(stat.lines().find_map(|line| line.strip_prefix("btime "))?)?;
    Some(boot + Stat::read()?.field(22)? / TICKS_PER_SECOND)
}

/// What /proc/self/stat says.
struct Stat(String);

impl Stat {
    fn read() -> Option<Self> {
        let line = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the program's name, which may hold anything, in parentheses.
        Some(Self(line.rsplit_once(')')?.1.to_owned()))
    }

    /// A field by its number, which is 3 or more.
    fn field(&self, number_of_field: usize) -> Option<f64> {
        number(self.0.split_whitespace().nth(number_of_field - 3)?)
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

/// In which Linux tells times to processes, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_numbers_of_the_system_are_those_of_this_process() {
        let resident = resident_bytes().unwrap();
        assert!((1e6..1e11).contains(&resident), "{resident}");
        assert!(max_fds().unwrap() >= open_fds().unwrap());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let start = start_time().unwrap();
        assert!((now - 86_400.0..=now + 1.0).contains(&start), "{start}, and it is {now}");
    }

    #[test]
    fn an_open_file_is_one_more_descriptor() {
        let before = open_fds().unwrap();
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        assert!(open_fds().unwrap() >= before + 40.0, "before it was {before}");
        drop(files);
    }

    #[test]
    fn work_takes_cpu_time() {
        let before = cpu_seconds().unwrap();
        let mut sum = 0_u64;
        while cpu_seconds().unwrap() < before + 0.05 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
