"""The theory's constants, measured layer by layer and not fitted; begin with measure.py.

derive.py works out Delta, lambda and sigma from the readings, predicted.py the curve that follows from them, words.py
puts them into sentences.
"""
