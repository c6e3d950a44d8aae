#include "api/grpc/unread_messages.h"

#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"

namespace penstock {
namespace {

using grpc::experimental::InterceptionHookPoints;

class RefusalInterceptor final : public grpc::experimental::Interceptor {
 public:
  explicit RefusalInterceptor(const std::function<void()>* on_refusal) : on_refusal_(*on_refusal) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* batch) override {
    if (batch->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      const grpc::Status status = batch->GetSendStatus();
      if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
        batch->ModifySendStatus({grpc::StatusCode::INVALID_ARGUMENT,
                                 "the message is not the protobuf message that this method takes"});
        on_refusal_();
      }
    }
    batch->Proceed();
  }

 private:
  const std::function<void()>& on_refusal_;
};

class RefusalFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  RefusalFactory(const google::protobuf::ServiceDescriptor& service,
                 std::function<void()> on_refusal)
      : on_refusal_(std::move(on_refusal)) {
    for (int i = 0; i < service.method_count(); ++i)
      methods_.insert("/" + service.full_name() + "/" + service.method(i)->name());
  }

  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    if (!methods_.contains(info->method())) return nullptr;
    return new RefusalInterceptor(&on_refusal_);  // gRPC's, until the call has ended
  }

 private:
  absl::flat_hash_set<std::string> methods_;
  const std::function<void()> on_refusal_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> RefuseUnreadMessages(
    const google::protobuf::ServiceDescriptor& service, std::function<void()> on_refusal) {
  return std::make_unique<RefusalFactory>(service, std::move(on_refusal));
}

}  // namespace penstock
