//! Go's text/template with the functions that Helm charts and Istio's injection templates use.
