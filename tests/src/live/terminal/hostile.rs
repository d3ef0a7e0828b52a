//! Names that contain escape sequences are shown as plain text.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _};

use anyhow::{Context as _, Result, ensure};

use super::Stage;
use crate::live::{World, generator::Generator};

/// A file name, which is the process's name and the beginning of its command line: it sets colours
/// and the title.
const NAME: &[u8] = b"\x1b[45m\x1b]2;b\x07\nevil";
/// Arguments: each way to set the title, colours, clearing the screen, leaving the alternate
/// screen, the line drawing character set.
const ARGUMENTS: [&str; 6] = [
    "\x1b]0;owned\x07",
    "\x1bkowned\x1b\\",
    "\x1b[45;33m",
    "\x1b[2J\x1b[H",
    "\x1b[?1049l\u{9b}?25h",
    "\x1b(0",
];

pub fn names(world: &World) -> Result<()> {
    let stage = Stage::set(world, "hostile")?;
    let terminal = &stage.terminal;
    let (title, modes) = (terminal.ask("#{pane_title}")?, terminal.modes()?);

    let path = terminal.folder.join(OsStr::from_bytes(NAME));
    fs::copy(&world.generator, &path).context("copying the generator")?;
    let mut evil = world.with_backend(world.options.backend);
    evil.generator = path;
    let to = ["--peer", &stage.address, "--bytes", "1400", "--"].map(str::to_owned);
    let arguments = [&to[..], &ARGUMENTS.map(str::to_owned)].concat();
    let evil = Generator::start(&evil, "hostile.evil", "stubborn", &arguments, None)?;
    let pid = evil.pid();

    stage.only(pid)?;
    terminal.until("its name as text", |screen| {
        screen.row(pid)?.contains(r"\x1b[45m").then_some(())
    })?;
    terminal.keys(&["Enter"])?;
    terminal.until("its command line as text", |screen| {
        let all = [
            r"\x1b]2;b\x07\nevil",
            r"\x1b]0;owned\x07",
            r"\x1b[45;33m",
            r"\x1b[2J\x1b[H",
        ];
        let command = screen.fact("command")?;
        let shown = all.iter().all(|text| command.contains(text));
        (shown && screen.has("executable")).then_some(())
    })?;
    let colored = terminal.colored()?;
    let orders = colored.split('\x1b').skip(1);
    let mut orders = orders.filter_map(|order| order.strip_prefix('[')?.split_once('m'));
    ensure!(
        orders.all(|(order, _)| order.split(';').all(|number| number != "45")),
        "its colours are on the screen: {colored:?}"
    );
    ensure!(
        terminal.modes()? == modes,
        "the terminal obeyed: {:?}",
        terminal.modes()?
    );
    let now = terminal.ask("#{pane_title}")?;
    ensure!(now == title, "its title is {now:?}, before {title:?}");
    stage.close_detail()?;
    stage.quit(world)
}
