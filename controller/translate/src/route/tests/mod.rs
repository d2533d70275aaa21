//! One table of cases for each field or rule.
