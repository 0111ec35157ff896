//! A page of metrics, as Prometheus would read it.

/// One scrape.
#[derive(Debug, Clone)]
pub struct Metrics(Vec<Sample>);

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Reads a page.
    ///
    /// # Panics
    /// If it is not in Prometheus' text format.
    #[must_use]
    pub fn parse(page: &str) -> Self {
        let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(
            lines
                .map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}")))
                .collect(),
        )
    }

    /// The sum of the samples of a name that have these labels, whatever others they have.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.matching(name, labels).map(|sample| sample.value as u64).sum()
    }

    /// The same with its fraction, for what is measured in seconds.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// How many samples there are of a name, or of all.
    #[must_use]
    pub fn count(&self, name: Option<&str>) -> usize {
        self.0.iter().filter(|sample| name.is_none_or(|name| sample.name == name)).count()
    }

    /// The samples of a name that have these labels, by the value of another label.
    #[must_use]
    pub fn by(&self, name: &str, labels: &[(&str, &str)], label: &str) -> Vec<(String, u64)> {
        let of = |sample: &Sample| {
            let value = sample.labels.iter().find(|(known, _)| known == label);
            (value.map(|(_, value)| value.clone()).unwrap_or_default(), sample.value as u64)
        };
        self.matching(name, labels).map(of).collect()
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| {
            let has = |(label, value): &(&str, &str)| {
                sample.labels.iter().any(|(known, is)| known == label && is == value)
            };
            sample.name == name && labels.iter().all(has)
        })
    }
}

/// `name{label="value",...} 12`. No label here has a comma or a quote in its value.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let pair = |text: &str| {
        let (label, value) = text.split_once('=')?;
        Some((label.to_owned(), value.trim_matches('"').to_owned()))
    };
    let labels =
        labels.split(',').filter(|text| !text.is_empty()).map(pair).collect::<Option<_>>()?;
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}
