//! Tables: columns aligned by blanks, three of them after the widest cell.

/// The narrowest column.
const MIN_WIDTH: usize = 5;
/// Blanks after the widest cell.
const PADDING: usize = 3;

/// Lines of a table, each ended by a newline; the last column is padded as well, as Calico's is.
pub(crate) fn render(headings: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let mut widths = vec![0; headings.len()];
    let lines: Vec<Vec<String>> = std::iter::once(headings).chain(rows).collect();
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count() + PADDING).max(MIN_WIDTH);
        }
    }
    let mut text = String::new();
    for line in lines {
        for (width, cell) in widths.iter().zip(line) {
            text.push_str(&format!("{cell:width$}"));
        }
        text.push('\n');
    }
    text
}

/// Lines of a table with borders, for reports.
pub(crate) fn render_boxed(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let rule: String = widths.iter().map(|w| format!("+{}", "-".repeat(w + 2))).collect::<String>() + "+\n";
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: String = widths.iter().zip(cells).map(|(w, cell)| format!("| {cell:w$} ")).collect();
        cells + "|\n"
    };
    let mut text = rule.clone() + &line(&mut headings.iter().copied()) + &rule;
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text + &rule
}
