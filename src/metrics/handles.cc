#include "metrics/handles.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

namespace penstock {

void CounterHandle::Add(double amount) const {
  if (counter_ != nullptr) counter_->Increment(amount);
}
double CounterHandle::value() const { return counter_ == nullptr ? 0 : counter_->Value(); }

void GaugeHandle::Set(double value) const {
  if (gauge_ != nullptr) gauge_->Set(value);
}
double GaugeHandle::value() const { return gauge_ == nullptr ? 0 : gauge_->Value(); }

void HistogramHandle::Observe(double value) const {
  if (histogram_ != nullptr) histogram_->Observe(value);
}
void HistogramHandle::ObserveMany(const std::vector<double>& counts, double sum) const {
  if (histogram_ != nullptr) histogram_->ObserveMultiple(counts, sum);
}

}  // namespace penstock
