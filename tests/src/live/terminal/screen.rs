//! A terminal that a test can type into and read: the one window of a tmux of its own, with a shell
//! in it.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::termios::{Termios, tcgetattr};

use crate::live::{
    World,
    generator::{appending, die_with_parent},
    waiting,
};

/// Columns and rows of a terminal.
pub type Size = (u16, u16);

/// A terminal and the shell in it. Both end on drop, also if the test panics or is killed.
pub struct Terminal {
    server: Child,
    socket: String,
    socket_path: PathBuf,
    /// The shell's terminal device, to query its state.
    tty: File,
    /// The working directory of the shell, also its home.
    pub folder: PathBuf,
    patience: Duration,
}

/// Columns of the names of facts in a detail.
const FACTS: usize = 17;

/// The state of a terminal, as far as programs change it.
#[derive(Debug, PartialEq)]
pub struct Modes {
    line: Termios,
    /// Alternate screen, cursor, and each mouse mode, from tmux.
    flags: String,
}

/// The text on a terminal.
pub struct Screen {
    pub lines: Vec<String>,
}

impl Terminal {
    /// Opens a terminal and waits for the shell, in which `$FLOW` is the program under test.
    pub fn open(world: &World, name: &str, size: Size) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let socket = format!("flow-test-{}-{number}", std::process::id());
        let folder = world.scratch.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let errors = folder.join("tmux.err");
        let mut command = tmux(&socket);
        command
            .args(["-f", "/dev/null", "-D"])
            .env("FLOW", fs::canonicalize(&world.options.flow)?)
            .env("HOME", &folder)
            .env("XDG_CONFIG_HOME", &folder)
            .env("PS1", "$ ")
            .env_remove("ENV")
            .env_remove("NO_COLOR")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(appending(&errors)?);
        // SAFETY: only a system call that is safe between fork and exec.
        unsafe { command.pre_exec(die_with_parent) };
        let server = command.spawn().context("starting tmux")?;
        let mut terminal = Self {
            server,
            socket,
            socket_path: PathBuf::new(),
            tty: File::open("/dev/null")?,
            folder,
            patience: world.patience(),
        };
        terminal.start_shell(size)?;
        Ok(terminal)
    }

    fn start_shell(&mut self, (columns, rows): Size) -> Result<()> {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let folder = self.folder.to_str().context("the path of the scratch")?;
        let size = ["-x", &columns, "-y", &rows];
        let begin = [
            &["new-session", "-d", "-c", folder],
            &size[..],
            &["sh", "-i"],
        ]
        .concat();
        // tmux accepts commands a moment after it started.
        waiting::until(self.patience, "tmux to start a shell", || {
            if let Some(status) = self.server.try_wait()? {
                let errors = fs::read_to_string(self.folder.join("tmux.err"))?;
                bail!("tmux ended early, {status}: {errors}");
            }
            Ok(ordered(&self.socket, &begin).ok())
        })?;
        self.socket_path = self.ask("#{socket_path}")?.into();
        let path = self.ask("#{pane_tty}")?;
        self.tty = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
            .open(&path)
            .with_context(|| format!("opening {path}"))?;
        self.until("a prompt", |screen| screen.has("$").then_some(()))
    }

    /// Types a line into the shell.
    pub fn command(&self, line: &str) -> Result<()> {
        self.text(line)?;
        self.keys(&["Enter"])
    }

    /// Types text as it is.
    pub fn text(&self, text: &str) -> Result<()> {
        self.order(&["send-keys", "-l", text]).map(drop)
    }

    /// Presses keys, by tmux's names of them.
    pub fn keys(&self, keys: &[&str]) -> Result<()> {
        self.order(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// Resizes the terminal.
    pub fn resize(&self, (columns, rows): Size) -> Result<()> {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.order(&["resize-window", "-x", &columns, "-y", &rows])
            .map(drop)
    }

    /// A value of one of tmux's formats for this terminal.
    pub fn ask(&self, format: &str) -> Result<String> {
        let answer = self.order(&["display-message", "-p", format])?;
        Ok(answer.trim_end_matches('\n').to_owned())
    }

    /// The text on it now.
    pub fn screen(&self) -> Result<Screen> {
        let text = self.order(&["capture-pane", "-p"])?;
        Ok(Screen {
            lines: text.lines().map(str::to_owned).collect(),
        })
    }

    /// As above, with the escape sequences of its colours.
    pub fn colored(&self) -> Result<String> {
        self.order(&["capture-pane", "-p", "-e"])
    }

    /// Waits until `pick` finds what it looks for; the error has the text on the screen.
    pub fn until<T>(&self, what: &str, mut pick: impl FnMut(&Screen) -> Option<T>) -> Result<T> {
        let found = waiting::until(self.patience, what, || Ok(pick(&self.screen()?)));
        found.with_context(|| match self.screen() {
            Ok(screen) => format!("on the screen:\n{}\n", screen.lines.join("\n")),
            Err(error) => format!("no screen: {error:#}"),
        })
    }

    /// Waits until the shell is in the foreground again.
    pub fn until_shell(&self) -> Result<()> {
        self.until("the shell to be back", |_| {
            let command = self.ask("#{pane_current_command}");
            command.is_ok_and(|command| command == "sh").then_some(())
        })
    }

    /// The exit code of the last command.
    pub fn exit_code(&self) -> Result<i32> {
        let path = self.folder.join("code");
        // The file of an earlier command.
        let _ = fs::remove_file(&path);
        self.command("echo $? >code")?;
        self.until("an exit code", |_| {
            let text = fs::read_to_string(&path).ok()?;
            text.strip_suffix('\n')?.parse().ok()
        })
    }

    /// The one child of the shell that still runs.
    pub fn child(&self) -> Result<u32> {
        let shell = self.ask("#{pane_pid}")?;
        let path = format!("/proc/{shell}/task/{shell}/children");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let pid = text.trim().parse();
        pid.with_context(|| format!("children of the shell: {text:?}"))
    }

    /// Its state.
    pub fn modes(&self) -> Result<Modes> {
        let flags = "alternate screen #{alternate_on}, cursor #{cursor_flag}, mouse #{mouse_any_flag} \
            #{mouse_standard_flag} #{mouse_button_flag} #{mouse_sgr_flag}, keypad #{keypad_flag} #{keypad_cursor_flag}";
        Ok(Modes {
            line: tcgetattr(&self.tty).context("tcgetattr")?,
            flags: self.ask(flags)?,
        })
    }

    fn order(&self, arguments: &[&str]) -> Result<String> {
        ordered(&self.socket, arguments)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // tmux hangs up on its shell. A program that does not end is killed.
        if self.order(&["kill-server"]).is_ok() {
            let _ = waiting::for_exit(&mut self.server, Duration::from_secs(5), "tmux");
        }
        waiting::end(&mut self.server);
        // The place of its socket.
        let _ = fs::remove_file(&self.socket_path);
    }
}

impl Screen {
    /// Whether the screen contains this text.
    pub fn has(&self, text: &str) -> bool {
        self.line(text).is_some()
    }

    /// The first line with this text.
    pub fn line(&self, text: &str) -> Option<&str> {
        let mut lines = self.lines.iter();
        lines.find(|line| line.contains(text)).map(String::as_str)
    }

    /// The value of a fact in a detail, without blanks, as it may wrap over several lines.
    pub fn fact(&self, name: &str) -> Option<String> {
        let named = |line: &str| -> String { line.chars().take(FACTS).collect() };
        let mut lines = self.lines.iter();
        let first = lines.find(|line| named(line).trim() == name)?;
        let more = lines.take_while(|line| named(line).trim().is_empty());
        let texts = std::iter::once(first).chain(more);
        let texts = texts.flat_map(|line| line.chars().skip(FACTS));
        Some(texts.filter(|it| !it.is_whitespace()).collect())
    }

    /// The header of the table of processes.
    pub fn header(&self) -> Option<&str> {
        self.lines
            .iter()
            .find(|line| is_header(line))
            .map(String::as_str)
    }

    /// The rows of the table of processes; none without such a table.
    pub fn rows(&self) -> Vec<&str> {
        let lines = self.lines.iter().map(String::as_str);
        let rows = lines.skip_while(|line| !is_header(line)).skip(1);
        rows.take_while(|line| !line.trim_start().starts_with("TOTAL"))
            .filter(|line| !line.trim().is_empty())
            .collect()
    }

    /// Pids of the rows, from top to bottom.
    pub fn pids(&self) -> Vec<u32> {
        self.rows().into_iter().filter_map(pid).collect()
    }

    /// The row of a process.
    pub fn row(&self, of: u32) -> Option<&str> {
        self.rows().into_iter().find(|row| pid(row) == Some(of))
    }
}

fn is_header(line: &str) -> bool {
    line.contains("PID") && line.contains("PROCESS")
}

/// The pid at the beginning of a row, after its mark.
fn pid(row: &str) -> Option<u32> {
    let sign = |character: char| !character.is_ascii_digit() && !character.is_ascii_alphabetic();
    let text = row.trim_start_matches(sign);
    text.split(' ').next()?.parse().ok()
}

/// A tmux command with this socket, which nobody else uses.
fn tmux(socket: &str) -> Command {
    let mut command = Command::new("tmux");
    command
        .args(["-L", socket, "-u"])
        .env("LC_ALL", "C.UTF-8")
        .env_remove("TMUX")
        .env_remove("TMUX_PANE");
    command
}

/// Sends a command to a running tmux; returns its output.
fn ordered(socket: &str, arguments: &[&str]) -> Result<String> {
    let output = tmux(socket)
        .arg("-N")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("running tmux")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "tmux {}: {}",
        arguments.join(" "),
        error.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_between_header_and_total() {
        let text = " 1 Processes 5 │ 2 Flows 8\n\
            \u{20}    PID PROCESS   ↓RECEIVED/s\n\
            ▸   8123 postgres  6.1 MB/s\n\
            ∙! 40990 make (exited)\n\
            \u{20}        (not accepted yet)  1\n\
            \n\
            \u{20}        TOTAL   7  6.9 MB/s\n\
            \u{20}/ filter  q quit  6 rows";
        let screen = Screen {
            lines: text.lines().map(str::to_owned).collect(),
        };
        assert_eq!(screen.pids(), [8123, 40990]);
        assert_eq!(screen.rows().len(), 3);
        assert_eq!(screen.row(40990), Some("∙! 40990 make (exited)"));
        assert!(screen.header().unwrap().contains("↓RECEIVED/s"));
    }

    #[test]
    fn facts_are_read_over_several_lines() {
        let text = " command         flow-live generate\n\
            \u{20}                stubborn\n\
            \u{20}executable      /a/very/lo\n\
            \u{20}                ng/pa…live\n\
            \u{20}▼ 7.8 MB/s   301 MB\n\
            short";
        let screen = Screen {
            lines: text.lines().map(str::to_owned).collect(),
        };
        let fact = |name| screen.fact(name);
        assert_eq!(fact("command").unwrap(), "flow-livegeneratestubborn");
        assert_eq!(fact("executable").unwrap(), "/a/very/long/pa…live");
        assert_eq!(fact("cgroup"), None);
    }
}
