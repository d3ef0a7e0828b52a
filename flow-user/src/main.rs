//! temp
use flow_user::source::kernel::*;
#[tokio::main(flavor = "current_thread")]
async fn main() {
    env_logger::init();
    let mut k = Kernel::start(&Options {
        backend: None,
        cgroup_root: Some(std::env::args().nth(1).unwrap().into()),
    })
    .map_err(|e| {
        eprintln!("{e}");
        e
    })
    .unwrap();
    eprintln!("backend {:?}", k.backend());
    let mut out = vec![];
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(3);
    let mut t = tokio::time::interval(std::time::Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = tokio::time::sleep_until(end) => break,
            _ = t.tick() => k.tick(&mut out),
            r = k.next(&mut out) => r.unwrap(),
        }
        for e in out.drain(..) {
            eprintln!("{:?}", e);
        }
    }
    k.stop(&mut out);
    for e in out.drain(..) {
        eprintln!("{:?}", e);
    }
}
