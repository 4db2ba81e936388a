#pragma once

#include "NSObject.hpp"

namespace NS {

class Value : public Copying<Value> {
 public:
  static Value* value(const void* pPointer);
  void* pointerValue() const;
};

class Number : public Copying<Number, Value> {
 public:
  static Number* number(char value);
  static Number* number(unsigned char value);
  static Number* number(short value);
  static Number* number(unsigned short value);
  static Number* number(int value);
  static Number* number(unsigned int value);
  static Number* number(long value);
  static Number* number(unsigned long value);
  static Number* number(long long value);
  static Number* number(unsigned long long value);
  static Number* number(float value);
  static Number* number(double value);
  static Number* number(bool value);

  int intValue() const;
  unsigned int unsignedIntValue() const;
  long long longLongValue() const;
  unsigned long long unsignedLongLongValue() const;
  float floatValue() const;
  double doubleValue() const;
  bool boolValue() const;
  Integer integerValue() const;
  UInteger unsignedIntegerValue() const;
  class String* stringValue() const;

  bool isEqualToNumber(const Number* pNumber) const;
};

}  // namespace NS
