//! Numbers over time as a line of braille characters.

/// A graph `width` characters wide and `height` lines high, the latest at the right: two numbers
/// for each character, four steps for each line. From the top line down. `top` is what reaches the
/// upper edge.
pub fn braille(numbers: &[f64], width: usize, height: usize, top: f64) -> Vec<String> {
    /// The dots of the left and the right half, from the lowest up.
    const DOTS: [[u32; 5]; 2] = [
        [0x00, 0x40, 0x44, 0x46, 0x47],
        [0x00, 0x80, 0xa0, 0xb0, 0xb8],
    ];
    let steps = height * 4;
    let step = |number: f64| -> usize {
        if number <= 0.0 || top <= 0.0 || !number.is_finite() {
            return 0;
        }
        // What moves at all shows: the lowest dot. A cast from float saturates.
        ((number / top * steps as f64).ceil() as usize).clamp(1, steps)
    };
    let columns = width * 2;
    let newest = &numbers[numbers.len().saturating_sub(columns)..];
    let blank = columns - newest.len();
    let at = |column: usize| -> usize {
        match column.checked_sub(blank) {
            Some(column) => newest.get(column).map_or(0, |number| step(*number)),
            None => 0,
        }
    };
    (0..height)
        .rev()
        .map(|line| {
            let filled = |column: usize| at(column).saturating_sub(line * 4).min(4);
            let character = |place: usize| {
                let dots = DOTS[0][filled(place * 2)] | DOTS[1][filled(place * 2 + 1)];
                // Some fonts draw the empty pattern as eight rings.
                let drawn = char::from_u32(0x2800 + dots).filter(|_| dots > 0);
                drawn.unwrap_or(' ')
            };
            (0..width).map(character).collect()
        })
        .collect()
}

/// Rates as one line on a logarithmic scale, from one byte per second to `top`: small and large
/// ones can be compared at a glance.
pub fn row(rates: &[f64], top: f64) -> String {
    let heights: Vec<f64> = rates.iter().map(|rate| rate.max(0.0).ln_1p()).collect();
    braille(&heights, rates.len() / 2, 1, top.ln_1p()).concat()
}

/// The last `steps` numbers spread over `columns`, the latest at the right: each repeated where
/// there are more columns, the largest of several where there are fewer.
pub fn spread(numbers: &[f64], steps: usize, columns: usize) -> Vec<f64> {
    let newest = &numbers[numbers.len().saturating_sub(steps)..];
    let blank = steps - newest.len();
    let number = |step: usize| {
        let known = step.checked_sub(blank).and_then(|at| newest.get(at));
        known.copied().unwrap_or(0.0)
    };
    let most = |column: usize| {
        let start = column * steps / columns;
        let end = ((column + 1) * steps / columns).max(start + 1);
        (start..end).map(number).fold(0.0, f64::max)
    };
    (0..columns).map(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_stands_at_the_right_and_the_largest_reaches_the_top() {
        assert_eq!(braille(&[0.0, 1.0, 2.0, 4.0], 3, 1, 4.0), [" ⢀⣼"]);
        assert_eq!(braille(&[8.0, 8.0, 1.0, 4.0], 2, 2, 8.0), ["⣿ ", "⣿⣸"]);
        assert_eq!(braille(&[], 2, 1, 0.0), ["  "]);
        assert_eq!(braille(&[f64::NAN, -1.0, f64::INFINITY], 1, 1, 1.0), [" "]);
        assert!(braille(&[1.0], 0, 3, 1.0).iter().all(String::is_empty));
    }

    #[test]
    fn rates_of_a_row_are_compared_by_their_magnitude() {
        // Of 1.2 MB/s a rate of 68 B/s is a third, by the number of its digits.
        assert_eq!(row(&[68.0, 68.0, 1.2e6, 0.0], 1.2e6), "⣤⡇");
        assert_eq!(row(&[68.0, 68.0], 68.0), "⣿");
        assert_eq!(row(&[0.0, f64::NAN], 9.0), " ");
    }

    #[test]
    fn numbers_fill_whatever_room_there_is() {
        assert_eq!(spread(&[1.0, 2.0], 2, 4), [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(spread(&[1.0, 5.0, 2.0, 3.0], 4, 2), [5.0, 3.0]);
        // Unknown numbers are at the left.
        assert_eq!(spread(&[7.0], 3, 3), [0.0, 0.0, 7.0]);
        assert_eq!(spread(&[9.0, 1.0], 1, 2), [1.0, 1.0]);
        assert!(spread(&[1.0], 0, 3).iter().all(|number| *number == 0.0));
        assert!(spread(&[1.0], 5, 0).is_empty());
    }
}
