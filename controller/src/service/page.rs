//! The HTML of Bookinfo's product page.

use http::StatusCode;
use serde_json::Value;
use std::fmt::Write;

pub(super) const TITLE: &str = "The Comedy of Errors";

pub(super) const SUMMARY: &str = "Two pairs of twins, parted by a shipwreck, end up in the same town on the same \
    day, and everybody takes each for the other.";

pub(super) const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;\
    color:#1d2733}nav{display:flex;gap:1rem;align-items:center;border-bottom:1px solid #ccd;padding-bottom:.5rem}\
    main{display:grid;grid-template-columns:1fr 1fr;gap:2rem}blockquote{margin:0 0 1rem;padding-left:1rem;\
    border-left:3px solid #ccd}.black{color:#111}.red{color:#c8102e}.error{color:#a33}small{color:#667}\
    dt{font-weight:600}dd{margin:0 0 .4rem}";

type Asked = Result<Value, (StatusCode, String)>;

pub(super) fn index() -> String {
    layout("Bookinfo", "<h1>Bookinfo</h1><p><a href=\"/productpage\">Product page</a></p>")
}

/// `data-details` and `data-reviews` name what answered, for tests and `up --check`.
pub(super) fn product(pod: &str, user: Option<&str>, details: &Asked, reviews: &Asked) -> String {
    let session = match user {
        Some(user) => format!("<span>{} (<a href=\"/logout\">sign out</a>)</span>", escape(user)),
        None => "<form method=\"post\" action=\"/login\"><input name=\"username\" placeholder=\"user name\">\
                 <button>Sign in</button></form>"
            .to_owned(),
    };
    let body = format!(
        "<nav><b>BookInfo</b>{session}</nav><h1>{TITLE}</h1><p>{SUMMARY}</p><main>{}{}</main>\
         <p><small>page by {}</small></p>",
        details_section(details),
        reviews_section(reviews),
        escape(pod)
    );
    layout(TITLE, &body)
}

fn details_section(details: &Asked) -> String {
    let mut html = "<section><h2>Book details</h2>".to_owned();
    match details {
        Ok(details) => {
            html.push_str("<dl data-details=\"ok\">");
            for (name, content) in details.as_object().into_iter().flatten().filter(|(name, _)| *name != "id") {
                write!(html, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(&text(content))).expect("a String grows");
            }
            html.push_str("</dl>");
        }
        Err((_, why)) => html.push_str(&sorry("Sorry, product details are currently unavailable.", why)),
    }
    html + "</section>"
}

fn reviews_section(reviews: &Asked) -> String {
    let mut html = "<section><h2>Book reviews</h2>".to_owned();
    match reviews {
        Ok(found) => {
            for review in found["reviews"].as_array().into_iter().flatten() {
                let (body, reviewer) = (escape(&text(&review["text"])), escape(&text(&review["reviewer"])));
                let stars = stars(&review["rating"]);
                write!(html, "<blockquote><p>{body}</p><small>{reviewer}</small>{stars}</blockquote>")
                    .expect("a String grows");
            }
            let pod = escape(&text(&found["podname"]));
            write!(html, "<p><small>Reviews served by <span data-reviews=\"{pod}\">{pod}</span></small></p>")
                .expect("a String grows");
        }
        Err((_, why)) => html.push_str(&sorry("Sorry, product reviews are currently unavailable.", why)),
    }
    html + "</section>"
}

fn stars(rating: &Value) -> String {
    match (rating["stars"].as_u64(), rating["error"].as_str()) {
        (Some(stars), _) => {
            let stars = stars.min(5) as usize;
            let color = escape(&text(&rating["color"]));
            format!("<div class=\"{color}\">{}{}</div>", "★".repeat(stars), "☆".repeat(5 - stars))
        }
        (None, Some(why)) => format!("<div class=\"error\">{}</div>", escape(why)),
        (None, None) => String::new(),
    }
}

fn sorry(what: &str, why: &str) -> String {
    format!("<p class=\"error\" title=\"{}\">{what}</p>", escape(why))
}

fn layout(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <link rel=\"stylesheet\" href=\"/static/style.css\"></head><body>{body}</body></html>\n"
    )
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
