// The compiled part of Boost.Asio and Boost.Beast, once for all.
#include <boost/asio/impl/src.hpp>

// Beast asserts that of a last chunk at least five bytes are there when it looks again, but how many
// come is the client's choice. Without that it asks for more, as it should.
#define BOOST_DISABLE_ASSERTS
#include <boost/assert.hpp>
#include <boost/beast/src.hpp>
#undef BOOST_DISABLE_ASSERTS
#include <boost/assert.hpp>
