//! The story as the tutorial shows it: a table in Markdown, and a drawing with an arrow for whoever reaches whom.

use std::fmt::Write as _;
use std::path::Path;

use super::story::{Actor, STORY, Step, pairs};

/// A panel's width and height, and how many stand side by side.
const WIDTH: i32 = 300;
const HEIGHT: i32 = 250;
const COLUMNS: i32 = 4;

/// Half the size of an actor's box.
const BOX: (i32, i32) = (56, 18);

/// Where an actor stands in its panel.
fn place(actor: Actor) -> (i32, i32) {
    match actor {
        Actor::ManagementUi => (150, 62),
        Actor::Client => (68, 142),
        Actor::Frontend => (232, 142),
        Actor::Backend => (150, 222),
    }
}

/// The table of the tutorial.
fn table() -> String {
    let mut text =
        "| after | management-ui reaches | client reaches | frontend reaches | backend reaches |\n\
                    |---|---|---|---|---|\n"
            .to_owned();
    for step in &STORY {
        write!(text, "| `{}`: {} ", step.file, step.title).expect("writing to a String cannot fail");
        for from in Actor::ALL {
            let reached: Vec<&str> = step.reach.iter().filter(|p| p.0 == from).map(|p| p.1.name()).collect();
            let reached = if reached.is_empty() { "nobody".to_owned() } else { reached.join(", ") };
            write!(text, "| {reached} ").expect("writing to a String cannot fail");
        }
        text.push_str("|\n");
    }
    text
}

/// The drawing: a panel for each step.
fn svg() -> String {
    let panels = i32::try_from(STORY.len()).expect("a handful");
    let rows = (panels + COLUMNS - 1) / COLUMNS;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>Who reaches whom after each step</title>\n\
         <defs><marker id=\"to\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\" fill=\"#2a7\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        WIDTH * COLUMNS,
        HEIGHT * rows
    );
    for (number, step) in (0..).zip(&STORY) {
        let (x, y) = (WIDTH * (number % COLUMNS), HEIGHT * (number / COLUMNS));
        write!(text, "<g transform=\"translate({x} {y})\">\n{}</g>\n", panel(number, step))
            .expect("writing to a String cannot fail");
    }
    text + "</svg>\n"
}

fn panel(number: i32, step: &Step) -> String {
    let mut text = format!("<text x=\"12\" y=\"22\" font-weight=\"bold\">{number}. {}</text>\n", step.title);
    for (from, to) in pairs().filter(|pair| step.reach.contains(pair)) {
        let ((x1, y1), (x2, y2)) = arrow(from, to);
        writeln!(
            text,
            "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"#2a7\" stroke-width=\"2\" marker-end=\"url(#to)\"/>"
        )
        .expect("writing to a String cannot fail");
    }
    for actor in Actor::ALL {
        let (x, y) = place(actor);
        let (w, h) = BOX;
        writeln!(
            text,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"6\" fill=\"#eef\" stroke=\"#446\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x - w,
            y - h,
            2 * w,
            2 * h,
            y + 5,
            actor.name()
        )
        .expect("writing to a String cannot fail");
    }
    text
}

/// From the edge of one box to the edge of the other, a little to the right of the middle, so that the way back has its own.
fn arrow(from: Actor, to: Actor) -> ((i32, i32), (i32, i32)) {
    let ((x1, y1), (x2, y2)) = (place(from), place(to));
    let (dx, dy) = (f64::from(x2 - x1), f64::from(y2 - y1));
    let length = dx.hypot(dy);
    let aside = (-dy / length * 5.0, dx / length * 5.0);
    // How much of the way is inside a box.
    let (w, h) = (f64::from(BOX.0) + 5.0, f64::from(BOX.1) + 5.0);
    let inside = f64::min(w / dx.abs().max(1e-9), h / dy.abs().max(1e-9));
    let point = |part: f64| {
        let round = |value: f64| value.round() as i32;
        (round(f64::from(x1) + dx * part + aside.0), round(f64::from(y1) + dy * part + aside.1))
    };
    (point(inside), point(1.0 - inside))
}

/// `UPDATE_GOLDENS=1` writes the drawing and shows the table.
#[test]
fn the_tutorial_tells_this_story() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let drawing = docs.join("policy-demo.svg");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&drawing, svg()).expect("the drawing");
    }
    assert_eq!(std::fs::read_to_string(&drawing).expect("docs/policy-demo.svg"), svg());
    let tutorial = std::fs::read_to_string(docs.join("policy-demo.md")).expect("docs/policy-demo.md");
    assert!(tutorial.contains(&table()), "docs/policy-demo.md must contain:\n{}", table());
    for step in &STORY {
        let command = format!("kubectl apply -f deploy/policy-demo/{}", step.file);
        assert!(tutorial.contains(&command), "docs/policy-demo.md: {command}");
    }
}
