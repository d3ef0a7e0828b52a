//! Configurations as people write them, hostile ones, and a round trip.

mod random;

use std::{fs, path::Path};

use super::{read::read, *};
use crate::{
    query::{groups::By, hostile::is_hostile},
    tui::{
        Key,
        keymap::{ALWAYS_QUIT, Action},
    },
};

fn texts(loaded: &Loaded) -> Vec<String> {
    loaded.warnings.iter().map(ToString::to_string).collect()
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

/// All that a configuration says, to be compared.
fn essence(config: &Config) -> String {
    let Config {
        screen,
        interval,
        history_ttl,
        udp_idle,
        mouse,
        symbols,
        filter,
    } = config;
    let Preferences {
        view,
        theme,
        units,
        compact,
        threshold,
        keys,
        tables,
    } = screen;
    let tables = tables.each_ref().map(|table| {
        let columns: Vec<_> = table.columns.iter().map(|column| column.name).collect();
        let sort = table.sort.map(|(column, reverse)| (column.name, reverse));
        (columns, sort, table.grouping)
    });
    let keys: Vec<_> = keys
        .bindings()
        .iter()
        .map(|it| (it.name, &it.keys))
        .collect();
    format!(
        "{view:?} {theme:?} {units:?} {compact} {threshold:?} {tables:?} {keys:?} {interval:?} {history_ttl:?} {udp_idle:?} {mouse} {symbols:?} {filter}"
    )
}

#[test]
fn every_setting_is_read() {
    let loaded = read(
        r#"
        view = "flows"
        theme = "colour-blind"
        units = "bits"
        interval = 500
        history-ttl = "1.5m"
        udp-idle = "2m"
        compact = true
        mouse = false
        threshold = "10 MB/s"
        symbols = "ascii"
        filter = "not port 22"
        group.flows = "by process"
        columns.flows = ["remote", "rx_rate"]
        [sort]
        flows = "remote:reverse"
        users = "rate"
        events = "rx_bytes"
        [keys]
        pause = ["P", "F2"]
        next_match = []
        users = "u"
        "#,
    )
    .unwrap();
    assert_eq!(texts(&loaded), [""; 0]);
    let Config {
        screen,
        interval,
        history_ttl,
        udp_idle,
        mouse,
        symbols,
        filter,
    } = &loaded.config;
    assert_eq!(
        (screen.view, screen.theme),
        (ViewId::Group(By::Flow), Some(Theme::ColourBlind))
    );
    assert_eq!((screen.units.bits, screen.units.binary), (true, false));
    assert_eq!(*interval, Duration::from_millis(500));
    assert_eq!(*history_ttl, Duration::from_secs(90));
    assert_eq!(*udp_idle, Duration::from_secs(120));
    assert_eq!((screen.compact, *mouse), (true, false));
    assert_eq!(*symbols, Some(Symbols::Ascii));
    assert_eq!(filter, "not port 22");
    assert_eq!(screen.threshold, Some(10_000_000));
    let table = |view: ViewId| &screen.tables[view.index()];
    let names = |view: ViewId| {
        table(view)
            .columns
            .iter()
            .map(|column| column.name)
            .collect::<Vec<_>>()
    };
    let sort = |view: ViewId| {
        table(view)
            .sort
            .map(|(column, reverse)| (column.name, reverse))
    };
    let flows = ViewId::Group(By::Flow);
    let grouping = &flows.def().groupings[table(flows).grouping];
    assert_eq!(grouping.name, "by process");
    assert_eq!(names(flows), ["remote", "rx_rate"]);
    assert_eq!(sort(ViewId::Group(By::Flow)), Some(("remote", true)));
    assert_eq!(sort(ViewId::Group(By::User)), None);
    assert_eq!(sort(ViewId::Events), Some(("rx_bytes", false)));
    let action = |text| screen.keys.action(key(text));
    assert_eq!(action("P"), Some(Action::Pause));
    assert_eq!(action("p"), None);
    assert_eq!(action("n"), None);
    // It had another meaning, which has other keys too.
    assert_eq!(action("u"), Some(Action::View(ViewId::Group(By::User))));
    assert_eq!(action("m"), Some(Action::Units));
    assert_eq!(loaded.origin("view"), Origin::File(2));
    assert_eq!(loaded.origin("columns.flows"), Origin::File(14));
    assert_eq!(loaded.origin("keys.quit"), Origin::Default);
}

#[test]
fn what_makes_no_sense_is_reported_with_the_nearest_name_and_does_not_count() {
    for (text, message) in [
        (
            "intervall = 1",
            "line 1: there is no setting `intervall`; did you mean `interval`?",
        ),
        (
            "\n\nzzz = 1",
            "line 3: there is no setting `zzz`; choose view, theme, symbols, units, filter, interval, history-ttl, udp-idle, compact, mouse, threshold, columns, sort, group or keys",
        ),
        (
            "view = \"flwos\"",
            "line 1: `view`: there is no view `flwos`; did you mean `flows`?",
        ),
        ("view = 3", "line 1: `view`: there is no view `3`; choose"),
        (
            "view = true",
            "line 1: `view`: expected a quoted string, not true or false",
        ),
        ("theme = \"drak\"", "did you mean `dark`?"),
        ("units = \"bit\"", "did you mean `bits`?"),
        (
            "interval = \"1\"",
            "`interval`: expected a time from 50ms to 1h, not `1`",
        ),
        ("interval = -1", "`interval`: expected a number and ms"),
        ("interval = nan", "`interval`: expected a number and ms"),
        (
            "history-ttl = 60",
            "`history-ttl`: expected a number and ms, s, m or h, such as 30s, not `60`",
        ),
        (
            "compact = \"yes\"",
            "`compact`: expected true or false, not a string",
        ),
        ("mouse = 1979-05-27", "not a date"),
        (
            "threshold = 10",
            "`threshold`: expected off or a number and B/s",
        ),
        (
            "columns = 1",
            "`columns`: expected a table with a line for each view, not a number",
        ),
        (
            "[[keys]]",
            "`keys`: expected a table with a line for each action, not several tables",
        ),
        (
            "[columns]\nflwos = []",
            "line 2: there is no view `flwos`; did you mean `flows`?",
        ),
        (
            "[columns]\nflows = \"pid\"",
            "line 2: columns of flows: expected names of columns in brackets, not a string",
        ),
        (
            "[columns]\nflows = []",
            "line 2: columns of flows: no valid column is left, so the default applies",
        ),
        (
            "[columns]\nflows = [\n\"remote\",\n\"remot\",\n]",
            "line 4: columns of flows: there is no column `remot`; did you mean `remote`?",
        ),
        (
            "[columns]\nflows = [\"pid\", \"pid\"]",
            "columns of flows: `pid` is listed twice",
        ),
        (
            "[columns]\nflows = [\"pid\", 1]",
            "columns of flows: expected names in quotes",
        ),
        (
            "[columns]\nflows = [\"pid\", \"socket\"]",
            "there is no column `socket`",
        ),
        (
            "[columns]\nnames = [\"pid\"]",
            "line 2: columns of names: this view has none",
        ),
        (
            "[sort]\nusers = \"pid\"",
            "sort of users: there is no column `pid`",
        ),
        (
            "[sort]\nusers = \"flows:revers\"",
            "sort of users: there is no column",
        ),
        (
            "[sort]\nusers = 1",
            "sort of users: expected the name of a column in quotes, not a number",
        ),
        ("symbols = \"asci\"", "did you mean `ascii`?"),
        ("filter = \"port\"", "`filter`: filter, column 5: expected"),
        (
            "[group]\nflows = \"by proces\"",
            "line 2: group of flows: there is no grouping `by proces`; did you mean `by process`?",
        ),
        (
            "[group]\nflows = 1",
            "group of flows: expected the name of a grouping in quotes, not a number",
        ),
        (
            "[keys]\nquitt = \"x\"",
            "line 2: there is no action `quitt`; did you mean `quit`?",
        ),
        (
            "[keys]\nsort = \"hyper-x\"",
            "line 2: keys of `sort`: there is no key `hyper-x`; write keys as q",
        ),
        (
            "[keys]\nsort = 5",
            "keys of `sort`: expected keys in quotes",
        ),
        (
            "[keys.sort]",
            "keys of `sort`: expected keys in quotes, not a table",
        ),
        (
            "[keys]\nsort = \"q\"",
            "`q` always quits and cannot be bound to `sort`",
        ),
        (
            "[keys]\nsort = [\"x\", \"ctrl-c\"]",
            "`ctrl-c` always quits and cannot be bound to `sort`",
        ),
        (
            "[keys]\nsort = \"x\"\npause = [\"p\", \"x\"]",
            "line 3: `x` is already bound to `sort`, not to `pause`",
        ),
        (
            "[keys]\nsort = \"c\"",
            "line 1: `compact` has no keys left: `c` is now bound to `sort`",
        ),
    ] {
        let loaded = read(text).unwrap();
        let warnings = texts(&loaded);
        assert_eq!(warnings.len(), 1, "{text}: {warnings:?}");
        assert!(warnings[0].contains(message), "{text}: {warnings:?}");
    }
    let wrong = read("view = \"flwos\"\n[columns]\nflows = []\n[keys]\nsort = [1]").unwrap();
    assert_eq!(essence(&wrong.config), essence(&Config::default()));
}

#[test]
fn keys_can_be_exchanged_and_the_way_out_stays() {
    let loaded = read("[keys]\nsort = \"p\"\npause = \"s\"\nquit = \"x\"").unwrap();
    assert_eq!(texts(&loaded), [""; 0]);
    let keys = &loaded.config.screen.keys;
    assert_eq!(keys.action(key("p")), Some(Action::Sort));
    assert_eq!(keys.action(key("s")), Some(Action::Pause));
    for quits in ["x", "q", "ctrl-c"] {
        assert_eq!(keys.action(key(quits)), Some(Action::Quit));
    }
    // Who is refused every key keeps those that it had.
    let refused = read("[keys]\nsort = \"q\"").unwrap();
    assert_eq!(
        refused.config.screen.keys.action(key("s")),
        Some(Action::Sort)
    );
    let locked = read("[keys]\nquit = []\nsort = [\"q\", \"ctrl-c\"]").unwrap();
    for quits in ALWAYS_QUIT {
        assert_eq!(locked.config.screen.keys.action(quits), Some(Action::Quit));
    }
}

#[test]
fn what_is_no_toml_names_the_line_and_what_to_do() {
    let deep = format!("a = {}", "[".repeat(30_000));
    let dotted = format!("{}a = 1", "a.".repeat(30_000));
    let tables = format!("[{}a]", "a.".repeat(30_000));
    let inline = "a = {a=".repeat(9_000);
    for (text, line) in [
        ("view = \"flows\"\ntheme = dark", 2),
        ("view = \"flows\"\n\nview = \"flows\"", 3),
        ("view = \"flo", 1),
        ("[columns\n", 1),
        ("\u{0}", 1),
        ("view \u{1b}[2J = 1", 1),
        ("<?xml version=\"1.0\"?>", 1),
        ("{\"view\": \"flows\"}", 1),
        (&*deep, 1),
        (&*dotted, 1),
        (&*tables, 1),
        (&*inline, 1),
    ] {
        let start: String = text.chars().take(40).collect();
        let error = read(text).expect_err(&start).to_string();
        assert!(
            error.starts_with(&format!("line {line} is not TOML: ")),
            "{start}: {error}"
        );
        assert!(
            error.ends_with("fix that line (strings need quotes), or move the file away"),
            "{error}"
        );
        assert!(!error.contains(is_hostile) && error.len() < 400, "{error}");
    }
}

#[test]
fn many_things_that_make_no_sense_are_reported_in_short() {
    let many: String = (0..5_000).map(|at| format!("x{at} = 1\n")).collect();
    let loaded = read(&many).unwrap();
    assert_eq!(loaded.warnings.len(), 21);
    assert!(
        texts(&loaded)[20].contains("4980 more"),
        "{:?}",
        texts(&loaded)[20]
    );
    let long = format!("\"{}\" = 1", "\\u001b[2J".repeat(5_000));
    let message = &texts(&read(&long).unwrap())[0];
    assert!(
        message.len() < 400 && !message.contains(is_hostile),
        "{message}"
    );
}

#[test]
fn the_command_line_goes_before_the_file() {
    let mut loaded = read("view = \"flows\"\ntheme = \"light\"\ninterval = \"2s\"").unwrap();
    loaded.override_with(Overrides {
        view: Some(ViewId::Group(By::User)),
        interval: Some(Duration::from_secs(5)),
        history_ttl: Some(Duration::from_secs(1)),
        udp_idle: Some(Duration::from_secs(3)),
        filter: Some("tcp".to_owned()),
        ..Overrides::default()
    });
    let Config { screen, .. } = &loaded.config;
    assert_eq!(
        (screen.view, screen.theme),
        (ViewId::Group(By::User), Some(Theme::Light))
    );
    let text = render(&loaded);
    for line in [
        "view = \"users\"  # command line",
        "theme = \"light\"  # line 2 of the file",
        "interval = \"5s\"  # command line",
        "history-ttl = \"1s\"  # command line",
        "udp-idle = \"3s\"  # command line",
        "compact = false  # default",
        "filter = \"tcp\"  # command line",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn what_is_printed_at_first() {
    let loaded = Loaded::from(Some(Place::at(Path::new("/nowhere/flow/config.toml"))));
    insta::assert_snapshot!("default", render(&loaded));
    let taken = read("[keys]\nsort = \"p\"").unwrap();
    let text = render(&taken);
    assert!(text.contains("pause the display; counting continues; default, without \"p\""));
    assert!(render(&Loaded::from(None)).contains("# No file: "));
}

#[test]
fn a_file_that_cannot_be_used_is_reported_and_all_is_as_usual() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, "view = flows").unwrap();
    let loaded = Loaded::from(Some(Place::at(&path)));
    assert_eq!(essence(&loaded.config), essence(&Config::default()));
    let message = loaded.messages();
    assert!(
        message[0].contains("config.toml: line 1 is not TOML"),
        "{message:?}"
    );
    assert!(
        render(&loaded).contains("# The file cannot be used, so all settings have their defaults.")
    );
}
