//! Ticks of cpu, memory, disk and network through heim with its published runtime.
//!
//! Reads a number of ticks from each line of stdin, takes them, and writes the CPU time of all threads in nanoseconds. The
//! bench `tick` runs it.

use std::error::Error;
use std::hint::black_box;
use std::io::{self, Write};

use futures::StreamExt;
use futures::executor::block_on;
use rustix::time::{ClockId, clock_gettime};

async fn tick() -> heim::Result<()> {
    let mut cpus = std::pin::pin!(heim::cpu::times().await?);
    while let Some(cpu) = cpus.next().await {
        black_box(cpu?);
    }
    black_box(heim::cpu::time().await?);
    black_box(heim::memory::memory().await?);
    black_box(heim::memory::swap().await?);
    let mut disks = std::pin::pin!(heim::disk::io_counters().await?);
    while let Some(disk) = disks.next().await {
        black_box(disk?);
    }
    let mut interfaces = std::pin::pin!(heim::net::io_counters().await?);
    while let Some(interface) = interfaces.next().await {
        black_box(interface?);
    }
    Ok(())
}

fn cpu_time_ns() -> i64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

fn main() -> Result<(), Box<dyn Error>> {
    for line in io::stdin().lines() {
        let ticks: u32 = line?.trim().parse()?;
        let begun = cpu_time_ns();
        for _ in 0..ticks {
            block_on(tick())?;
        }
        println!("{}", cpu_time_ns() - begun);
        io::stdout().flush()?;
    }
    Ok(())
}
