//! Users' own templates, in Go's template language as in Istio's ConfigMap.

/// Whether the text is a template at all.
pub(super) fn parse(text: &str) -> Result<(), String> {
    let _ = text;
    Ok(())
}
