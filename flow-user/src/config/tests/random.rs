//! Any configuration is read as it was rendered, and no text breaks reading.

use proptest::prelude::*;
use strum::IntoEnumIterator as _;

use super::*;
use crate::{
    query::human::Units,
    tui::{Code, Table, keymap::KeyMap},
};

fn config() -> impl Strategy<Value = Config> {
    let table = |view: ViewId| {
        let choices = Table::choices(view);
        let count = choices.len();
        let columns = prop::sample::subsequence(choices, 1.min(count)..=count).prop_shuffle();
        let sorts = view.columns().iter().collect::<Vec<_>>();
        let sort = match sorts.is_empty() {
            true => Just(None).boxed(),
            false => (prop::sample::select(sorts), any::<bool>())
                .prop_map(Some)
                .boxed(),
        };
        let grouping = 0..view.def().groupings.len();
        (columns, sort, grouping).prop_map(|(columns, sort, grouping)| Table {
            columns,
            grouping,
            // The order by rate is the one without a column.
            sort: sort.filter(|(column, reverse)| column.name != "rate" || *reverse),
        })
    };
    let tables = ViewId::ALL.map(table);
    let names: Vec<&'static str> = KeyMap::default()
        .bindings()
        .iter()
        .map(|it| it.name)
        .collect();
    let typed =
        (any::<char>(), any::<bool>(), any::<bool>()).prop_map(|(character, ctrl, alt)| Key {
            code: Code::Char(character),
            ctrl,
            alt,
        });
    let keys = prop_oneof![3 => typed, 1 => (1..=24_u8).prop_map(|it| Key::plain(Code::F(it)))];
    let bound = (
        prop::sample::select(names),
        prop::collection::vec(keys, 0..4),
    );
    let screen = (
        prop::sample::select(ViewId::ALL.to_vec()),
        prop::option::of(prop::sample::select(Theme::iter().collect::<Vec<_>>())),
        prop::sample::select(Units::ALL.to_vec()),
        any::<bool>(),
        prop::option::of(1..=u64::MAX),
        tables,
        prop::collection::vec(bound, 0..8),
    );
    let screen = screen.prop_map(|(view, theme, units, compact, threshold, tables, bound)| {
        let mut preferences = Preferences {
            view,
            theme,
            units: units.1,
            compact,
            threshold,
            tables,
            ..Preferences::default()
        };
        for (name, keys) in bound {
            preferences.keys.bind(name, &keys);
        }
        preferences
    });
    let interval = (50_000_000..=3_600_000_000_000_u64).prop_map(Duration::from_nanos);
    let ttl = (any::<u64>(), 0..1_000_000_000_u32);
    let ttl = ttl.prop_map(|(seconds, rest)| Duration::new(seconds, rest));
    let ttls = (ttl.clone(), ttl);
    let symbols = prop::option::of(prop::sample::select(Symbols::iter().collect::<Vec<_>>()));
    let filter = prop::sample::select(vec!["", "port 22", "user \"\u{1b}\u{202e}\" or tcp"]);
    (screen, interval, ttls, any::<bool>(), symbols, filter).prop_map(
        |(screen, interval, (history_ttl, udp_idle), mouse, symbols, filter)| Config {
            screen,
            interval,
            history_ttl,
            udp_idle,
            mouse,
            symbols,
            filter: filter.to_owned(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_printed_is_read_as_the_same(config in config()) {
        let loaded = Loaded { config, ..Loaded::default() };
        let text = render(&loaded);
        prop_assert!(!text.contains(|it| it != '\n' && is_hostile(it)), "{}", text);
        let again = read(&text).unwrap();
        prop_assert_eq!(texts(&again), [""; 0]);
        prop_assert_eq!(essence(&again.config), essence(&loaded.config));
    }

    #[test]
    fn no_text_breaks_it(text in any::<String>()) {
        let _ = read(&text);
    }

    #[test]
    fn no_value_breaks_it(
        name in prop::sample::select(vec!["view", "interval", "mouse", "threshold", "columns", "keys", "filter", "group.flows", "sort.flows", "columns.flows", "keys.quit"]),
        value in "(\\PC{0,20}|\"\\PC{0,20}\"|\\[(\"\\PC{0,9}\", ?){0,4}\\]|\\{[a-z]{1,8} = .{1,8}\\}|-?[0-9.e]{1,30})",
    ) {
        if let Ok(loaded) = read(&format!("{name} = {value}")) {
            for message in texts(&loaded) {
                prop_assert!(!message.contains(is_hostile) && message.len() < 400, "{}", message);
            }
            let again = read(&render(&loaded)).unwrap();
            prop_assert_eq!(essence(&again.config), essence(&loaded.config));
        }
    }
}
