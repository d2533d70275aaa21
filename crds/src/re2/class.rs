//! Character classes of RE2: `[a-z]`, `[[:alpha:]]`, `\p{Greek}`.

use super::Parser;

impl Parser {
    /// After `[`, up to and including `]`. Returns the estimated number of instructions.
    pub(super) fn class(&mut self) -> Result<u64, String> {
        if self.peek(0) == Some('^') {
            self.at += 1;
        }
        let mut size = 1;
        let mut is_first = true;
        loop {
            match (self.peek(0), self.peek(1)) {
                (None, _) => return Err("missing closing ]".into()),
                (Some(']'), _) if !is_first => {
                    self.at += 1;
                    return Ok(size);
                }
                (Some('['), Some(':')) if self.posix_name()? => size += 1,
                (Some('\\'), Some('d' | 'D' | 's' | 'S' | 'w' | 'W')) => self.at += 2,
                (Some('\\'), Some('p' | 'P')) => {
                    self.at += 1;
                    self.unicode_group()?;
                    size += 50;
                }
                _ => self.range()?,
            }
            is_first = false;
        }
    }

    /// After the `\` of `\pN`, `\p{Greek}`, `\p{^Greek}`.
    pub(super) fn unicode_group(&mut self) -> Result<(), String> {
        self.at += 1;
        let name: String = match self.next() {
            Some('{') => {
                let rest = &self.rest[self.at..];
                let Some(end) = rest.iter().position(|c| *c == '}') else {
                    return Err("invalid character class range: missing }".into());
                };
                let name = rest[..end].iter().collect();
                self.at += end + 1;
                name
            }
            Some(c) => c.into(),
            None => return Err("invalid character class range: \\p".into()),
        };
        let known = name.strip_prefix('^').unwrap_or(&name);
        match GROUPS.contains(&known) {
            true => Ok(()),
            false => Err(format!("invalid character class range: {name}")),
        }
    }

    /// `[:alpha:]`; without the closing `:]` the bracket is a literal.
    fn posix_name(&mut self) -> Result<bool, String> {
        let rest = &self.rest[self.at + 2..];
        let Some(end) = rest.windows(2).position(|two| two == [':', ']']) else { return Ok(false) };
        let name: String = rest[..end].iter().collect();
        if !POSIX.contains(&name.strip_prefix('^').unwrap_or(&name)) {
            return Err(format!("invalid character class range: [:{name}:]"));
        }
        self.at += end + 4;
        Ok(true)
    }

    fn range(&mut self) -> Result<(), String> {
        let start = self.at;
        let low = self.class_char()?;
        if self.peek(0) != Some('-') || matches!(self.peek(1), None | Some(']')) {
            return Ok(());
        }
        self.at += 1;
        let high = self.class_char()?;
        match high < low {
            true => {
                let text: String = self.rest[start..self.at].iter().collect();
                Err(format!("invalid character class range: {text}"))
            }
            false => Ok(()),
        }
    }

    fn class_char(&mut self) -> Result<char, String> {
        match self.next() {
            Some('\\') => self.escaped_char(),
            Some(c) => Ok(c),
            None => Err("missing closing ]".into()),
        }
    }
}

const POSIX: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Unicode categories and scripts (`re2/unicode_groups.cc`).
#[rustfmt::skip]
const GROUPS: &[&str] = &[
    "Any", "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl",
    "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs",
    "Adlam", "Ahom", "Anatolian_Hieroglyphs", "Arabic", "Armenian", "Avestan", "Balinese", "Bamum", "Bassa_Vah",
    "Batak", "Bengali", "Bhaiksuki", "Bopomofo", "Brahmi", "Braille", "Buginese", "Buhid", "Canadian_Aboriginal",
    "Carian", "Caucasian_Albanian", "Chakma", "Cham", "Cherokee", "Chorasmian", "Common", "Coptic", "Cuneiform",
    "Cypriot", "Cypro_Minoan", "Cyrillic", "Deseret", "Devanagari", "Dives_Akuru", "Dogra", "Duployan",
    "Egyptian_Hieroglyphs", "Elbasan", "Elymaic", "Ethiopic", "Georgian", "Glagolitic", "Gothic", "Grantha", "Greek",
    "Gujarati", "Gunjala_Gondi", "Gurmukhi", "Han", "Hangul", "Hanifi_Rohingya", "Hanunoo", "Hatran", "Hebrew",
    "Hiragana", "Imperial_Aramaic", "Inherited", "Inscriptional_Pahlavi", "Inscriptional_Parthian", "Javanese",
    "Kaithi", "Kannada", "Katakana", "Kawi", "Kayah_Li", "Kharoshthi", "Khitan_Small_Script", "Khmer", "Khojki",
    "Khudawadi", "Lao", "Latin", "Lepcha", "Limbu", "Linear_A", "Linear_B", "Lisu", "Lycian", "Lydian", "Mahajani",
    "Makasar", "Malayalam", "Mandaic", "Manichaean", "Marchen", "Masaram_Gondi", "Medefaidrin", "Meetei_Mayek",
    "Mende_Kikakui", "Meroitic_Cursive", "Meroitic_Hieroglyphs", "Miao", "Modi", "Mongolian", "Mro", "Multani",
    "Myanmar", "Nabataean", "Nag_Mundari", "Nandinagari", "New_Tai_Lue", "Newa", "Nko", "Nushu",
    "Nyiakeng_Puachue_Hmong", "Ogham", "Ol_Chiki", "Old_Hungarian", "Old_Italic", "Old_North_Arabian", "Old_Permic",
    "Old_Persian", "Old_Sogdian", "Old_South_Arabian", "Old_Turkic", "Old_Uyghur", "Oriya", "Osage", "Osmanya",
    "Pahawh_Hmong", "Palmyrene", "Pau_Cin_Hau", "Phags_Pa", "Phoenician", "Psalter_Pahlavi", "Rejang", "Runic",
    "Samaritan", "Saurashtra", "Sharada", "Shavian", "Siddham", "SignWriting", "Sinhala", "Sogdian", "Sora_Sompeng",
    "Soyombo", "Sundanese", "Syloti_Nagri", "Syriac", "Tagalog", "Tagbanwa", "Tai_Le", "Tai_Tham", "Tai_Viet",
    "Takri", "Tamil", "Tangsa", "Tangut", "Telugu", "Thaana", "Thai", "Tibetan", "Tifinagh", "Tirhuta", "Toto",
    "Ugaritic", "Vai", "Vithkuqi", "Wancho", "Warang_Citi", "Yezidi", "Yi", "Zanabazar_Square",
];
